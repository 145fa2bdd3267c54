"""Which folders are on a network file system, by a table of mounts as Linux writes it."""

import pytest

from fkal.tracking import network_files
from fkal.tracking.network_files import network_file_system
from fkal.tracking.store import StoreError, prepare_store


@pytest.fixture
def mounts(tmp_path):
    """A table in which these folders below `tmp_path` are mounted, with their types."""

    def written(**kinds: str):
        lines = ["27 1 254:0 / / rw,relatime - ext4 /dev/vda rw", "odd", "1 2 - "]
        for name, kind in kinds.items():
            (tmp_path / name / "deep").mkdir(parents=True, exist_ok=True)
            place = str(tmp_path / name).replace(" ", "\\040")
            lines.append(f"28 27 0:30 / {place} rw shared:1 - {kind} server:/export rw")
        (tmp_path / "mountinfo").write_text("\n".join(lines) + "\n")
        return tmp_path / "mountinfo"

    return written


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "lustre", "fuse.sshfs"])
def test_a_folder_below_a_network_mount_is_on_it(mounts, tmp_path, kind):
    table = mounts(**{"a share": kind})
    assert network_file_system(tmp_path / "a share" / "deep", table) == kind
    assert network_file_system(tmp_path, table) is None
    (tmp_path / "link").symlink_to(tmp_path / "a share" / "deep")
    assert network_file_system(tmp_path / "link", table) == kind


def test_a_disk_that_is_mounted_below_a_share_is_a_disk(mounts, tmp_path):
    table = mounts(share="nfs")
    disk = f"29 28 0:31 / {tmp_path / 'share' / 'deep'} rw - xfs /dev/vdb rw\n"
    table.write_text(table.read_text() + disk)
    assert network_file_system(tmp_path / "share" / "deep", table) is None
    assert network_file_system(tmp_path / "share", table) == "nfs"


def test_where_nothing_tells_mounts_nothing_is_refused(tmp_path):
    assert network_file_system(tmp_path, tmp_path / "absent") is None


def test_a_store_on_a_network_file_system_is_refused_before_it_is_made(mounts, tmp_path, monkeypatch):
    table = mounts(share="nfs4")
    monkeypatch.setattr("fkal.tracking.store.network_file_system", lambda path: network_file_system(path, table))
    with pytest.raises(StoreError, match=r"network file system \(nfs4\).*--tracking-uri"):
        prepare_store(f"sqlite:///{tmp_path}/share/mlflow.db")
    assert sorted(path.name for path in (tmp_path / "share").iterdir()) == ["deep"]
    assert network_files.MOUNTS.name == "mountinfo"
