"""What becomes of a version by what its certificate says: served, quarantined, withdrawn, tried again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyfunc.certificate.verdict import Certificate, Status
from pyfunc.contract import INDEX_KEY, ONNX_FILE, SERVED_FILES, certificate_key, sha256, version_prefix
from pyfunc.errors import GoldenMismatchError
from pyfunc.index import PublishedVersion
from registry_sync.errors import MassWithdrawalError
from registry_sync.publish import Publisher
from registry_sync.sync import Sides
from tests.registry_sync.house import CODE, House

HERE, ELSEWHERE = sha256(b"libraries here"), sha256(b"libraries elsewhere")


class ScriptedCertifier:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.environment: str | None = HERE
        self.status, self.reason, self.asked = Status.VERIFIED, "", 0
        self.is_final = True
        self.error: Exception | None = None

    def prepare(self) -> None:
        """Nothing to prepare."""

    def certify(self, bundle: Path, folder: Path, version: str) -> Certificate:
        """Say it."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        files = [sha256((folder / path).read_bytes()) for path in SERVED_FILES]
        document = json.dumps([self.status, version, files, sha256(bundle.read_bytes())])
        return Certificate(self.status, self.reason, document.encode(), self.is_final)

    def close(self) -> None:
        """Nothing to close."""


class CertifiedHouse(House):
    """A house whose versions are certified; `certifier` None leaves that out, as older syncs did."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.script = ScriptedCertifier()
        self.certifier: ScriptedCertifier | None = self.script
        self.required = False

    @property
    def sides(self) -> Sides:
        """What a sync works on."""
        sides = super().sides
        publisher = Publisher(
            self.store, self.convert, CODE, self.certifier, is_certificate_required=self.required
        )
        return Sides(sides.source, publisher, None, sides.now)

    def entry(self, model_id: str = "a") -> PublishedVersion:
        """What the index says of a model's current version."""
        model = self.index().models[model_id]
        return model.versions[model.current]

    def reasons(self) -> list[str | None]:
        """Every row's reason."""
        return [row.reason.code if row.reason else None for row in self.index().rows]

    def assert_settled(self) -> None:
        """Another sync asks nothing and writes nothing (C9)."""
        asked, writes = self.script.asked, self.store.calls["write"]
        assert not self.sync().written
        assert (asked, writes) == (self.script.asked, self.store.calls["write"])


@pytest.fixture
def house(tmp_path: Path) -> CertifiedHouse:
    """One model, one row."""
    house = CertifiedHouse(tmp_path)
    house.add("a", 1, b"a1")
    return house


def test_a_verified_version_carries_its_certificate(house: CertifiedHouse) -> None:
    """The index names it by its digest, under which it is kept."""
    house.sync()

    entry = house.entry()
    assert ("verified", HERE) == (entry.certificate_status, entry.certified_with)
    assert entry.certificate is not None
    kept = house.store.read(certificate_key("a", entry.certificate), max_bytes=2**20).data
    assert entry.certificate == sha256(kept)
    house.assert_settled()


def test_a_failed_version_is_never_served(house: CertifiedHouse) -> None:
    """Quarantined with the worst row; the row's earlier version serves on; tried again elsewhere only."""
    house.sync()
    (before,) = house.index().models["a"].versions
    house.script.status, house.script.reason = Status.FAILED, "effects: worst row 3"
    house.add("a", 2, b"a2")

    house.sync()

    assert [None, "parity_failed"] == house.reasons()
    assert "effects: worst row 3" == house.index().rows[1].reason.message  # type: ignore[union-attr]
    assert [before] == list(house.index().models["a"].versions)
    house.assert_settled()
    house.script.environment, house.script.status = ELSEWHERE, Status.VERIFIED
    house.sync()
    assert [None, None] == house.reasons()
    assert 2 == len(house.index().models["a"].versions)


def test_a_published_version_that_is_disproved_is_withdrawn(house: CertifiedHouse) -> None:
    """Published before there were certificates, and wrong: no longer served, nor published anew."""
    house.certifier = None
    house.sync()
    house.certifier, house.script.status = house.script, Status.FAILED

    house.sync()

    assert ["parity_failed"] == house.reasons()
    assert {} == dict(house.index().models)
    house.assert_settled()


def test_versions_disproved_by_the_dozen_are_a_fault_of_whoever_disproves(house: CertifiedHouse) -> None:
    """Broken libraries must not empty the mirror: nothing is changed unless somebody insists."""
    house.certifier = None
    for name in "bcde":
        house.add(name, 1, name.encode())
    house.sync()
    before = house.index()
    house.certifier, house.script.status = house.script, Status.FAILED
    with pytest.raises(MassWithdrawalError, match="--allow-withdraw 5"):
        house.sync()
    assert before == house.index()
    house.sync(allow_withdraw=5)
    assert {} == house.served()


def test_a_published_version_that_denies_its_golden_rows_is_withdrawn(house: CertifiedHouse) -> None:
    """The server would not serve it either."""
    house.certifier = None
    house.sync()
    house.certifier = house.script
    house.script.error = GoldenMismatchError("effects", 3, expected=1.0, found=2.0)

    house.sync()

    assert [GoldenMismatchError.code] == house.reasons()
    assert {} == dict(house.index().models)
    house.assert_settled()


def test_an_unverified_version_is_served_and_certified_later(house: CertifiedHouse) -> None:
    """By a sync with other libraries, without converting; one without libraries leaves it alone."""
    house.script.status, house.script.environment = Status.UNVERIFIED, None
    house.sync()
    assert "unverified" == house.entry().certificate_status
    house.assert_settled()

    house.script.environment = HERE
    house.sync()
    assert "unverified" == house.entry().certificate_status  # the libraries refused
    house.assert_settled()

    house.script.environment = None
    house.assert_settled()

    house.script.environment, house.script.status = ELSEWHERE, Status.VERIFIED
    house.sync()
    assert ("verified", ELSEWHERE) == (house.entry().certificate_status, house.entry().certified_with)
    assert [b"a1"] == house.converted
    house.assert_settled()


@pytest.mark.parametrize("required", [False, True])
def test_libraries_that_were_stopped_are_asked_again(house: CertifiedHouse, required: bool) -> None:  # noqa: FBT001
    """A limit of time or memory may have room next time; meanwhile the index stays as it is."""
    house.script.status, house.script.is_final, house.required = Status.UNVERIFIED, False, required
    house.sync()
    assert not house.sync().written
    assert 2 == house.script.asked

    house.script.status, house.script.is_final = Status.VERIFIED, True
    house.sync()
    assert "verified" == house.entry().certificate_status
    house.assert_settled()


def test_a_verified_version_is_not_asked_about_again(house: CertifiedHouse) -> None:
    """Not even where the libraries are others."""
    house.sync()
    house.script.environment = ELSEWHERE
    house.assert_settled()


def test_an_older_version_gets_its_certificate(house: CertifiedHouse) -> None:
    """Published without one; the next sync makes up for it."""
    house.certifier = None
    house.sync()
    assert house.entry().certificate is None
    house.certifier = house.script

    house.sync()

    assert "verified" == house.entry().certificate_status
    assert [b"a1"] == house.converted
    house.assert_settled()


def test_a_required_certificate_withholds_what_is_not_verified(house: CertifiedHouse) -> None:
    """A new version is not served; once nobody requires it any more, it is."""
    house.script.status, house.required = Status.UNVERIFIED, True
    house.sync()
    assert ["certificate_required"] == house.reasons()
    assert {} == dict(house.index().models)
    house.assert_settled()

    house.required = False
    house.sync()
    assert [None] == house.reasons()
    assert "unverified" == house.entry().certificate_status


NOT_READY = """UPDATE registry SET item = replace(item, '"ready"', '"testing"')"""


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ("SELECT 1", ["certificate_required"]),
        (NOT_READY, [None]),
        ("DELETE FROM registry WHERE model_id = 'a'", []),
    ],
    ids=["ready", "no longer ready", "absent"],
)
def test_requiring_certificates_withdraws_what_has_none(
    house: CertifiedHouse, change: str, reasons: list[str | None]
) -> None:
    """Whatever is served unverified when it begins."""
    house.add("b", 1, b"b1", status="testing")
    house.script.status = Status.UNVERIFIED
    house.sync()
    assert {"a": 1} == house.served()
    house.execute(change)
    house.required = True

    house.sync()

    assert [*reasons, None] == house.reasons()
    assert {} == dict(house.index().models)
    house.assert_settled()


def test_a_damaged_version_is_reported_and_stays(house: CertifiedHouse) -> None:
    """Its files are not what was published: nothing is known of the model, and the server refuses it."""
    house.certifier = None
    house.sync()
    current = house.index().models["a"].current
    path = Path(house.store.name) / version_prefix("a", current) / ONNX_FILE
    path.write_bytes(bytes(path.stat().st_size))  # of another size it would be made again
    house.certifier = house.script

    house.sync()

    assert ["version_damaged"] == house.reasons()
    assert {"a": 1} == house.served()


def test_a_certifier_with_a_bug_stops_nobody(house: CertifiedHouse) -> None:
    """Its row is quarantined with a plea; the next sync tries again."""
    house.script.error = ZeroDivisionError("nobody foresaw this")
    house.sync()
    assert ["certifier_failed"] == house.reasons()

    house.script.error = None
    house.sync()
    assert [None] == house.reasons()


def test_an_index_of_an_older_release_is_read(house: CertifiedHouse) -> None:
    """Without the fields that certificates brought."""
    house.sync()
    path = Path(house.store.name) / INDEX_KEY
    document = json.loads(path.read_text())
    for model in document["models"].values():
        for version in model["versions"].values():
            del version["certificate_status"], version["certified_with"], version["certificate"]
    path.write_text(json.dumps(document))

    house.sync()

    assert "verified" == house.entry().certificate_status
