"""The site's own page: cohort, quarantine, what left the building, budget. It only reads, and small counts of people
are not shown.

cohort.py   patients by split and kind of example, with small counts hidden
left.py     what left, from the audit log
budget.py   what is spent of the privacy budget, from the ledger
model.py    all of it at one moment, each part with its own fault
view.py     the same in tables
doors.py    who may look
app.py      the page over HTTP
service.py  keeping it up
"""
