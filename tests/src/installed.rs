//! Servers whose executable the test may replace, and programs to replace it by.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::house::{House, executable};

impl House {
    /// The same with a copy of the executable in its folder, from which the server is started.
    pub fn installed(self) -> House {
        let own = self.installation();
        copy(&executable(), &own);
        self.executable(&own)
    }

    /// Where that copy is.
    pub fn installation(&self) -> PathBuf {
        self.path().join("steadfast")
    }

    /// Replaces that copy in one step, as an installer does.
    pub fn install(&self, from: &Path) {
        let new = self.installation().with_extension("new");
        copy(from, &new);
        fs::rename(&new, self.installation()).unwrap();
    }

    /// The file that lies there now, as a number that no other file has.
    pub fn installed_file(&self) -> u64 {
        fs::metadata(self.installation()).unwrap().ino()
    }
}

/// Copies a program. Not in this process: another thread may start a process at that moment, which has the file open for writing until it
/// executes, and the kernel executes no such file.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// The file that a process executes.
pub fn executed(pid: i32) -> u64 {
    fs::metadata(format!("/proc/{pid}/exe")).unwrap().ino()
}

/// Compiles a program in C, with this for its `main`.
pub fn program(folder: &Path, body: &str) -> PathBuf {
    let (source, program) = (folder.join("program.c"), folder.join("program"));
    let head = "#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n";
    let text = format!("{head}int main(int argc, char **argv) {{ {body} }}\n");
    fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    let compiled = compiler.arg(&source).arg("-o").arg(&program).output();
    let compiled = compiled.unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    program
}

/// Compiles a library in C that a program can be started with (`LD_PRELOAD`).
pub fn library(folder: &Path, text: &str) -> PathBuf {
    let (source, library) = (folder.join("library.c"), folder.join("library.so"));
    fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
    let compiled = compiler.arg(&library).arg(&source).output().unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    library
}

/// A server that sees the table otherwise.
pub fn other_layout() -> PathBuf {
    std::env::var_os("STEADFAST_OTHER_LAYOUT")
        .expect("STEADFAST_OTHER_LAYOUT: tests/run builds and names it")
        .into()
}
