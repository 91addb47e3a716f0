//! A wall clock of a server's own, which a test may set at any time: libfaketime in every process of it. Clocks that nobody can set go on as
//! they are.

use std::fs;
use std::path::PathBuf;

use crate::folder::Folder;

/// The clock; goes with its owner, after the servers that have it.
pub struct WallClock {
    folder: Folder,
    library: PathBuf,
}

impl Default for WallClock {
    fn default() -> Self {
        WallClock::new()
    }
}

impl WallClock {
    /// A clock that is right.
    pub fn new() -> WallClock {
        let folders = fs::read_dir("/usr/lib").unwrap().flatten();
        let mut places = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
        let library = places.find(|path| path.is_file());
        let clock = WallClock {
            folder: Folder::new("clock"),
            library: library.expect("libfaketime is missing: apt-get install libfaketime"),
        };
        clock.set(0);
        clock
    }

    /// Sets it so many seconds ahead of what is right, or behind.
    pub fn set(&self, ahead_s: i64) {
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, format!("{ahead_s:+}\n")).unwrap();
        fs::rename(fresh, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }

    /// What a server's environment needs to have it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

impl Drop for WallClock {
    /// What the library has left of processes that were killed.
    fn drop(&mut self) {
        for file in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = file.file_name().display().to_string();
            let pid = ["faketime_shm_", "sem.faketime_sem_"]
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix));
            if pid.is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true)) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}
