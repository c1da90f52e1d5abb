"""Whether a study still names somebody: rules for reports, DICOM headers, film pixels and WFDB headers.

finding.py    what was found, without ever holding what it was
names.py      given names and surnames, English and German
rules.py      the patterns, one a kind
reports.py    free text
dicom.py      DICOM headers
burned_in.py  writing in the pixels
notes.py      what pictures say besides their pixels
wfdb.py       headers of ECG records
gate.py       one verdict a study: the gate of an ingest
files.py      the same for files on a disk
"""
