use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::StorageError;

/// The version of the folder's layout that this program writes.
const FORMAT: u32 = 1;

/// A data folder that this process alone uses, until it is dropped.
///
/// It holds two small files: `lock`, locked while a process uses the folder and holding that process's
/// id, and `format`, the version of the folder's layout.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// The lock lasts as long as the file is open.
    _lock: File,
}

impl DataFolder {
    /// Creates the folder where it is missing and takes it for this process.
    ///
    /// Errors: [`StorageError::InUse`] with the holder's process id, [`StorageError::Newer`],
    /// [`StorageError::Format`], [`StorageError::File`].
    pub fn lock(path: &Path) -> Result<Self, StorageError> {
        fs::create_dir_all(path).map_err(StorageError::file("create", path))?;
        let lock = take_lock(path)?;
        check_format(&path.join("format"))?;
        Ok(Self {
            path: path.into(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn take_lock(folder: &Path) -> Result<File, StorageError> {
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StorageError::file("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StorageError::InUse {
                folder: folder.into(),
                holder: holder(&mut file),
            });
        }
        Err(TryLockError::Error(error)) => return Err(StorageError::file("lock", &path)(error)),
    }
    let record = |file: &mut File| -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())
    };
    record(&mut file).map_err(StorageError::file("write", &path))?;
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let process = file
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| text.trim().parse::<u32>().ok());
    process.map_or("another process".into(), |id| format!("process {id}"))
}

fn check_format(path: &Path) -> Result<(), StorageError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return fs::write(path, format!("{FORMAT}\n"))
                .map_err(StorageError::file("write", path));
        }
        Err(error) => return Err(StorageError::file("read", path)(error)),
    };
    let found: u32 = text.trim().parse().map_err(|_| StorageError::Format {
        path: path.into(),
        found: text.trim().chars().take(40).collect(),
    })?;
    if found <= FORMAT {
        return Ok(());
    }
    Err(StorageError::Newer {
        path: path.into(),
        found,
        known: FORMAT,
    })
}
