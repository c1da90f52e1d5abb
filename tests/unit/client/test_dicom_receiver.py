"""The receiver as a PACS meets it: real associations over loopback, files and a table that an ingest reads."""

from __future__ import annotations

import errno
import logging
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from trees.certificates import MadeCertificate, write_certificate
from trees.dicom_instances import ecg_instance, film_instance

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from client.dicom_receiver import Receiver

Listening = Callable[..., AbstractContextManager["Receiver"]]


@pytest.fixture
def listening(tmp_path: Path) -> Listening:
    """``with listening(max_instance_mib=1) as receiver``: a receiver on a free port; PACS may call it from here."""

    @contextmanager
    def listen(keep_free_bytes: int = 0, **settings: Any) -> Iterator[Receiver]:
        from client.dicom_receiver import receiving
        from client.dicom_spool import open_spool
        from client.site_file import ReceiverPart

        callers = [{"ae_title": "PACS", "addresses": ["127.0.0.0/8"]}]
        part = ReceiverPart.model_validate({"port": 0, "callers": callers, "spool": tmp_path / "spool", **settings})
        with open_spool(part.spool, keep_free_bytes) as spool, receiving(part, spool) as receiver:
            yield receiver

    return listen


@contextmanager
def association(receiver: Receiver, *, title: str = "PACS", called: str = "MORE_FED", **options: Any) -> Iterator[Any]:
    from pynetdicom import AE
    from pynetdicom.sop_class import Verification

    from client.dicom_spool import STORAGE_CLASSES

    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    for uid in (Verification, *STORAGE_CLASSES, "1.2.840.10008.5.1.4.1.1.2"):  # the last: CT
        entity.add_requested_context(uid)
    made = entity.associate(*receiver.address, ae_title=called, **options)
    try:
        yield made
    finally:
        if made.is_established:
            made.release()


def send(receiver: Receiver, *instances: Dataset) -> list[int | None]:
    """The status of each; None where the association ended without one."""
    with association(receiver) as pacs:
        assert pacs.is_established
        return [getattr(pacs.send_c_store(instance), "Status", None) for instance in instances]


def test_what_a_pacs_sends_can_be_ingested(listening: Listening, tmp_path: Path) -> None:
    from more_model.data.ingest import ingest
    from more_model.data.preprocessing import Preprocessing
    from more_model.data.sources import Table, read_cohort

    with listening() as receiver:
        assert send(receiver, film_instance(1), ecg_instance(2)) == [0, 0]
        assert send(receiver, film_instance(3)) == [0]
    studies = read_cohort([Table(mapping=tmp_path / "spool" / "received.toml")]).studies
    assert [(s.modality, s.patient_id, s.group_id) for s in studies] == [
        ("xray", "pseudonym-1", "A1"),
        ("ecg", "pseudonym-2", "A2"),
        ("xray", "pseudonym-3", "A3"),
    ]
    assert studies[0].time is not None and studies[0].time.isoformat() == "2184-03-01T10:15:00"
    report = ingest(studies, tmp_path / "store", "north", Preprocessing(image_size=16))
    assert (report.stored, report.refused) == ({"xray": 2, "ecg": 1}, {})


def test_paths_name_nobody_and_only_the_owner_may_look(listening: Listening, tmp_path: Path) -> None:
    with listening() as receiver:
        send(receiver, film_instance(1), film_instance(2, StudyDate=None))
    spool = tmp_path / "spool"
    names = sorted(str(path.relative_to(spool)) for path in spool.rglob("*.dcm"))
    assert [name.rsplit("/", 1)[0] for name in names] == ["instances/21840301", "instances/undated"]
    assert not any("pseudonym" in name or "A1" in name for name in names)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (spool, *spool.rglob("*")))


def test_a_repeated_instance_is_kept_once(listening: Listening, tmp_path: Path) -> None:
    with listening() as receiver:
        assert send(receiver, film_instance(1), film_instance(1)) == [0, 0]
        assert receiver.counts == {"stored": 1, "repeated": 1}
    with listening() as receiver:
        send(receiver, film_instance(1, AccessionNumber="corrected", StudyDate="21840302"))
        assert receiver.counts == {"repeated": 1}
    table = (tmp_path / "spool" / "received.csv").read_text().splitlines()
    assert len(table) == 2 and "corrected" in table[1]
    [film] = (tmp_path / "spool").rglob("*.dcm")
    assert film.parent.name == "21840302"


def test_echo(listening: Listening) -> None:
    with listening() as receiver, association(receiver) as pacs:
        assert pacs.send_c_echo().Status == 0


@pytest.mark.parametrize(
    ("instance", "status", "reason"),
    [
        (film_instance(1, PatientID=""), 0xC000, "no-patient"),
        (film_instance(1, StudyInstanceUID=None), 0xC000, "no-patient"),
    ],
)
def test_one_bad_instance_never_ends_it(listening: Listening, instance: Dataset, status: int, reason: str) -> None:
    with listening() as receiver:
        assert send(receiver, instance, film_instance(2)) == [status, 0]
        assert receiver.counts == {reason: 1, "stored": 1}
        assert len(list(receiver.spool.folder.rglob("*.dcm"))) == 1


def _as_sent(instance: Dataset) -> bytes:
    from pynetdicom.dsutils import encode

    encoded = encode(instance, False, True)
    assert encoded is not None
    return encoded


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (_as_sent(film_instance(1))[:70], 0xC000, "no-patient"),
        (bytes(100), 0xA900, "not-as-announced"),
        (_as_sent(film_instance(2)), 0xA900, "not-as-announced"),
    ],
    ids=["cut off in the header", "zeros", "another instance"],
)
def test_a_data_set_that_is_not_what_was_announced(
    listening: Listening, monkeypatch: pytest.MonkeyPatch, content: bytes, status: int, reason: str
) -> None:
    with listening() as receiver:
        with monkeypatch.context() as patched:
            patched.setattr("pynetdicom.association.encode", lambda *_options: content)
            assert send(receiver, film_instance(1)) == [status]
        assert receiver.counts == {reason: 1}
        assert send(receiver, film_instance(3)) == [0]


def test_a_nearly_full_disk_is_told_to_the_sender(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(keep_free_bytes=2**20) as receiver:
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=2**20))
        assert send(receiver, film_instance(1)) == [0xA700]
        monkeypatch.undo()
        assert send(receiver, film_instance(1)) == [0]
        assert receiver.counts == {"disk-full": 1, "stored": 1}


def test_a_disk_that_fills_up_while_writing_loses_nothing(
    listening: Listening, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with listening() as receiver:
        assert send(receiver, film_instance(1)) == [0]
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            assert send(receiver, film_instance(2)) == [0xA700]
        assert send(receiver, film_instance(2)) == [0]
    assert len(list((tmp_path / "spool").rglob("*.dcm"))) == 2
    assert not list((tmp_path / "spool").glob(".*.part"))


def test_a_message_that_is_too_large_ends_its_connection_and_no_other(listening: Listening) -> None:
    with listening(max_instance_mib=1) as receiver:
        assert send(receiver, film_instance(1, px=1300)) == [None]
        assert send(receiver, *(film_instance(number, px=600) for number in range(2, 8))) == [0] * 6


def test_a_length_that_is_only_announced_takes_no_memory(listening: Listening) -> None:
    with listening(max_instance_mib=1) as receiver:
        with socket.create_connection(receiver.address, timeout=10) as caller:
            caller.sendall(b"\x04\x00\xff\xff\xff\xff")
            with pytest.raises(OSError, match=r"reset|pipe"):
                for _ in range(1000):
                    caller.sendall(bytes(2**16))
        assert send(receiver, film_instance(1)) == [0]


def test_only_what_the_readers_know_is_offered(listening: Listening) -> None:
    with listening() as receiver, association(receiver) as pacs:
        assert {str(context.abstract_syntax) for context in pacs.rejected_contexts} == {"1.2.840.10008.5.1.4.1.1.2"}
        with pytest.raises(ValueError, match="No presentation context"):
            pacs.send_c_store(film_instance(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))


@pytest.mark.parametrize("names", [{"title": "STRANGER"}, {"called": "OTHER"}])
def test_unknown_titles_are_rejected(listening: Listening, names: dict[str, str]) -> None:
    with listening() as receiver:
        with association(receiver, **names) as pacs:
            assert pacs.is_rejected
        assert send(receiver, film_instance(1)) == [0]


def test_a_title_belongs_to_its_addresses(listening: Listening) -> None:
    callers = [
        {"ae_title": "PACS", "addresses": ["127.0.0.1"]},
        {"ae_title": "CART", "addresses": ["10.0.0.0/8"]},
    ]
    with listening(callers=callers) as receiver:
        with association(receiver, title="CART") as cart:
            assert cart.is_rejected
        assert receiver.counts == {"caller-rejected": 1}
        assert send(receiver, film_instance(1)) == [0]


def test_an_address_off_the_list_is_dropped_unread(listening: Listening) -> None:
    with listening(callers=[{"ae_title": "PACS", "addresses": ["10.0.0.0/8"]}]) as receiver:
        with association(receiver) as pacs:
            assert not pacs.is_established
        assert receiver.counts == {}


def test_what_a_killed_receiver_left_is_taken_up(listening: Listening, tmp_path: Path) -> None:
    with listening() as receiver:
        send(receiver, film_instance(1), film_instance(2))
    spool = tmp_path / "spool"
    (spool / "received.csv").unlink()
    (spool / ".0123-1.part").write_bytes(b"half an instance")
    with (spool / "received.jsonl").open("ab") as lines:
        lines.write(b'{"instance":"half a li')
    with listening() as receiver:
        assert send(receiver, film_instance(3)) == [0]
    with listening():
        table = (spool / "received.csv").read_text()
    assert [f"pseudonym-{number}" in table for number in (1, 2, 3)] == [True, True, True]
    assert not list(spool.glob(".*.part"))


def test_a_second_receiver_is_refused(listening: Listening) -> None:
    from more_model.errors import StoreError

    with listening(), pytest.raises(StoreError, match="Another receiver"), listening():
        pass


def test_nothing_of_a_patient_reaches_the_log(listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), listening() as receiver:
        send(receiver, film_instance(1), film_instance(2, StudyInstanceUID=None))
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "no-patient" in said and "pseudonym" not in said and "PACS" not in said


def _trusting(authority: Path, own: MadeCertificate | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def test_tls_asks_callers_who_they_are(listening: Listening, tmp_path: Path) -> None:
    authority = write_certificate(tmp_path, "authority")
    site, pacs, stranger = (
        write_certificate(tmp_path, "site", authority=authority),
        write_certificate(tmp_path, "pacs", authority=authority),
        write_certificate(tmp_path, "stranger"),
    )
    tls = {"certificate": site.certificate, "key": site.key, "caller_authority": authority.certificate}
    with listening(tls=tls) as receiver:
        # A caller that connects and says nothing does not keep the others waiting.
        with socket.create_connection(receiver.address):
            for own, accepted in ((pacs, True), (None, False), (stranger, False), (pacs, True)):
                context = _trusting(authority.certificate, own)
                with association(receiver, tls_args=(context, "localhost")) as caller:
                    assert caller.is_established is accepted
                    if accepted:
                        assert caller.send_c_store(film_instance(1)).Status == 0
            with association(receiver) as caller:
                assert not caller.is_established
        assert receiver.counts == {"stored": 1, "repeated": 1}
