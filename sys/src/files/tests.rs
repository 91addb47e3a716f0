//! As whoever runs the tests; what root does for another user is tested with the server (`tests/it/doors.rs`).

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed when the test ends.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("files-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path.canonicalize().unwrap())
    }

    fn file(&self, kind: Kind) -> io::Result<(File, bool)> {
        let folder = Folder::open(&self.0, None, false)?;
        folder.file(OsStr::new("file"), OFlag::O_RDWR, 0o600, kind)
    }

    fn refused(&self, kind: Kind, part: &str) {
        let why = self.file(kind).unwrap_err().to_string();
        assert!(why.contains(part), "{part:?} is not in {why:?}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_is_made_once_and_found_again() {
    let place = Place::new();
    let (file, made) = place.file(Kind::Plain).unwrap();
    assert!(made && file.metadata().unwrap().mode() & 0o777 == 0o600);
    assert!(!place.file(Kind::Plain).unwrap().1);
    let folder = Folder::open(&place.0, None, false).unwrap();
    assert!(folder.leads_to(OsStr::new("file"), &file));
    folder.remove(OsStr::new("file")).unwrap();
    assert!(!folder.leads_to(OsStr::new("file"), &file));
}

#[test]
fn nothing_but_a_plain_file_of_one_name_is_taken() {
    let place = Place::new();
    let (victim, file) = (place.0.join("victim"), place.0.join("file"));
    fs::write(&victim, "precious").unwrap();

    symlink(&victim, &file).unwrap();
    place.refused(Kind::Plain, "it is a link");
    place.refused(Kind::Log, "it is a link");
    fs::remove_file(&file).unwrap();
    symlink(place.0.join("new"), &file).unwrap();
    place.refused(Kind::Log, "it is a link");
    assert!(!place.0.join("new").exists());
    fs::remove_file(&file).unwrap();

    fs::hard_link(&victim, &file).unwrap();
    place.refused(Kind::Log, "2 names");
    fs::remove_file(&file).unwrap();

    fs::create_dir(&file).unwrap();
    place.refused(Kind::Log, "not a plain file");
    fs::remove_dir(&file).unwrap();

    nix::unistd::mkfifo(&file, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    place.refused(Kind::Plain, "not a plain file");
    place.file(Kind::Log).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_folder_that_everybody_writes_to_is_refused_unless_names_stay_in_it() {
    let place = Place::new();
    mode(&place.0, 0o777);
    place.refused(Kind::Plain, "everybody may write");
    mode(&place.0, 0o1777);
    place.file(Kind::Plain).unwrap();
    // People whose files are their group's by default are many.
    mode(&place.0, 0o775);
    place.file(Kind::Plain).unwrap();
}

#[test]
fn folders_are_made_and_links_of_our_own_lead_to_them() {
    let place = Place::new();
    let far = place.0.join("a/b/../c");
    assert!(Folder::open(&far, None, false).is_err());
    fs::create_dir(place.0.join("real")).unwrap();
    symlink("real/../real", place.0.join("a")).unwrap();
    let made = Folder::open(&place.0.join("a/b"), None, true).unwrap();
    assert_eq!(made.path(), place.0.join("real/b"));
    let found = Folder::open(&far, None, true).unwrap();
    assert_eq!(found.path(), place.0.join("real/c"));
    symlink("loop", place.0.join("loop")).unwrap();
    assert!(Folder::open(&place.0.join("loop"), None, false).is_err());
    fs::write(place.0.join("plain"), "").unwrap();
    let why = Folder::open(&place.0.join("plain/x"), None, true).unwrap_err();
    assert_eq!(why.kind(), ErrorKind::NotADirectory, "{why}");
}

#[test]
fn what_belongs_to_a_third_user_is_refused_as_root() {
    if !geteuid().is_root() {
        return;
    }
    let third = Some(12_345);
    let place = Place::new();
    let file = place.0.join("file");
    fs::write(&file, "").unwrap();
    std::os::unix::fs::chown(&file, third, third).unwrap();
    place.refused(Kind::Plain, "12345");
    fs::remove_file(&file).unwrap();

    let inner = place.0.join("inner");
    fs::create_dir(&inner).unwrap();
    symlink(&inner, place.0.join("theirs")).unwrap();
    std::os::unix::fs::lchown(place.0.join("theirs"), third, third).unwrap();
    let why = Folder::open(&place.0.join("theirs"), None, true).unwrap_err();
    assert!(
        why.to_string().contains("is a link that the user 12345"),
        "{why}"
    );
    std::os::unix::fs::chown(&place.0, third, third).unwrap();
    for path in [&place.0, &inner] {
        let why = Folder::open(path, None, true).unwrap_err();
        assert!(
            why.to_string().contains("belongs to the user 12345"),
            "{why}"
        );
    }
}
