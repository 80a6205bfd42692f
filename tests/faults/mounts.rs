//! File systems of our own: an ext4 on a loop device that can lose its power, and a tmpfs that is full. Root only.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: what is not on disk now never will be.
const EXT4_IOC_SHUTDOWN: u64 = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

pub struct Mount {
    pub path: PathBuf,
    image: Option<PathBuf>,
}

impl Mount {
    /// A new ext4 of `mib` MiB in a file below `home`.
    pub fn ext4(home: &Path, mib: u64) -> Mount {
        let image = home.join("disk.ext4");
        let file = File::create(&image).expect("the image");
        file.set_len(mib << 20).expect("its length");
        run("mkfs.ext4", &["-q", "-F", &text(&image)]);
        let mount = Mount { path: home.join("mount"), image: Some(image) };
        std::fs::create_dir_all(&mount.path).expect("the mount point");
        mount.mount();
        mount
    }

    pub fn tmpfs(home: &Path, mib: u64) -> Mount {
        let mount = Mount { path: home.join("tmpfs"), image: None };
        std::fs::create_dir_all(&mount.path).expect("the mount point");
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", &text(&mount.path)]);
        mount
    }

    /// Puts the spool alone on this file system, in segments that it has room for.
    pub fn spool_environment(&self) -> Vec<(String, String)> {
        vec![
            ("AFFLUX__SPOOL__DIRECTORY".into(), text(&self.path.join("spool"))),
            ("AFFLUX__SPOOL__SEGMENT_BYTES".into(), "1048576".into()),
        ]
    }

    /// The power goes: nothing that is still in memory reaches the device any more.
    pub fn cut_power(&self) {
        let root = File::open(&self.path).expect("the mounted root");
        let flags = NO_LOG_FLUSH;
        // SAFETY: the descriptor is open and the ioctl reads one u32.
        let result = unsafe { ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &flags) };
        assert_eq!(result, 0, "EXT4_IOC_SHUTDOWN: {}", std::io::Error::last_os_error());
    }

    /// The power comes back: unmount, mount (the journal is replayed).
    pub fn power_up(&self) {
        run("umount", &[&text(&self.path)]);
        self.mount();
    }

    fn mount(&self) {
        let image = self.image.as_ref().expect("only an ext4 comes back");
        run("mount", &["-o", "loop", &text(image), &text(&self.path)]);
    }

    /// Bytes written to the device so far, from /sys/fs/ext4 (`lifetime_write_kbytes` counts whole sessions too).
    pub fn device_bytes_written(&self) -> u64 {
        let mounts = std::fs::read_to_string("/proc/mounts").expect("/proc/mounts");
        let path = text(&self.path);
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&path)).expect("our mount");
        let device = line.split(' ').next().and_then(|device| device.strip_prefix("/dev/")).expect("a device");
        let stat = std::fs::read_to_string(format!("/sys/block/{device}/stat")).expect("block statistics");
        // Field 7: sectors of 512 bytes written (Documentation/block/stat.rst).
        let sectors: u64 = stat.split_ascii_whitespace().nth(6).and_then(|field| field.parse().ok()).expect("sectors");
        sectors * 512
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

unsafe extern "C" {
    fn ioctl(descriptor: i32, request: u64, flags: *const u32) -> i32;
}

/// Loop mounts need root; a fault that cannot be made is a failure, not a pass.
pub fn need_root() {
    let id = Command::new("id").arg("-u").output().expect("id");
    let root = String::from_utf8_lossy(&id.stdout).trim() == "0";
    assert!(root, "power cuts and full disks need root (loop mounts, tmpfs): run this as root");
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
