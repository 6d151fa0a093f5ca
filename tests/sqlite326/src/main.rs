//! `sqlite326 DATABASE`: runs the SQL statements on standard input, which NUL characters separate.
//!
//! Prints the version of SQLite, then a line for each statement: `ok`, or the error's message.

use std::ffi::{CStr, CString};
use std::io::Read as _;
use std::os::raw::c_int;
use std::ptr;

use libsqlite3_sys as ffi;

fn main() {
    let path = std::env::args().nth(1).expect("usage: sqlite326 DATABASE");
    let mut input = String::new();
    std::io::stdin()
        .read_to_string(&mut input)
        .expect("reading the statements");

    let database = Database::open(&path);
    // SAFETY: returns a constant string.
    let version = unsafe { CStr::from_ptr(ffi::sqlite3_libversion()) };
    println!("{}", version.to_string_lossy());
    for statement in input.split('\0') {
        match database.execute(statement) {
            Ok(()) => println!("ok"),
            Err(message) => println!("{message}"),
        }
    }
}

struct Database(*mut ffi::sqlite3);

impl Database {
    fn open(path: &str) -> Self {
        let path = CString::new(path).expect("a path without NUL");
        let mut handle = ptr::null_mut();
        // SAFETY: both pointers are valid for the call; an opened handle is used by this type alone.
        let code = unsafe { ffi::sqlite3_open(path.as_ptr(), &raw mut handle) };
        assert_eq!(code, ffi::SQLITE_OK as c_int, "opening {path:?}");
        Self(handle)
    }

    fn execute(&self, sql: &str) -> Result<(), String> {
        let sql = CString::new(sql).expect("split at NUL");
        // SAFETY: the handle is open, `sql` outlives the call, and without a callback nothing calls back.
        let code = unsafe {
            ffi::sqlite3_exec(self.0, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut())
        };
        if code == ffi::SQLITE_OK as c_int {
            return Ok(());
        }
        // SAFETY: the message belongs to the open handle until its next call; it is copied at once.
        let message = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(self.0)) };
        Err(message.to_string_lossy().into_owned())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: the handle is open and not used again.
        unsafe { ffi::sqlite3_close(self.0) };
    }
}
