//! File systems that are no local disk. Mapped files and locks on them are not what we promise.

use std::io;
use std::path::Path;

/// `f_type` of statfs(2): of the kernel's magic.h, and of file systems that are not in it.
const REMOTE: [(u32, &str); 25] = [
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0000_564c, "NCP"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
    (0x786f_4256, "a shared folder of VirtualBox"),
    (0xbacb_acbc, "a shared folder of VMware"),
    (0x7c7c_6673, "a shared folder of Parallels"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x2003_0528, "OrangeFS"),
    (0xaad7_aaea, "PanFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x6163_6673, "ACFS"),
    (0xa501_fcf5, "VxFS"),
    (0xbeef_dead, "StorNext"),
    (0x0131_11a8, "IBRIX"),
];

pub fn refuse(directory: &Path) -> io::Result<()> {
    let kind = rustix::fs::statfs(directory)?.f_type as u32;
    match name(kind) {
        None => Ok(()),
        Some(name) => {
            let message = format!("{}: on {name}; a spool needs a local disk", directory.display());
            Err(io::Error::new(io::ErrorKind::Unsupported, message))
        }
    }
}

fn name(kind: u32) -> Option<&'static str> {
    REMOTE.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_and_local_ones_pass() {
        assert_eq!(name(0x6969), Some("NFS"));
        assert_eq!(name(0x6573_5546), Some("FUSE"));
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x2fc1_2fc1, 0x794c_7630] {
            assert_eq!(name(local), None, "{local:x}");
        }
        refuse(&std::env::temp_dir()).unwrap();
    }
}
