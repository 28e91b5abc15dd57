//! A disk that loses its power: a file served over `/dev/fuse`, on which a loop device makes a block device.
//!
//! What is written stays in the disk's cache until the file is synced: a power cut forgets it, or keeps some of it, as a
//! drive with a volatile cache does. After the cut nothing can be written or synced, so nothing can be acknowledged either.
//! The kernel's protocol is spoken by hand here (`linux/fuse.h`): a mounted file needs few of its calls, and no library.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

const MAX_WRITE: usize = 128 << 10;
/// A request's header comes before its arguments.
const IN_HEADER: usize = 40;
const EIO: i32 = 5;
const ENOSYS: i32 = 38;

/// How much of what was not synced a power cut forgets.
#[derive(Clone, Copy, Debug)]
pub enum Forgets {
    All,
    /// Each write on its own, in pieces of a sector.
    Some,
    Nothing,
}

struct Media {
    /// What reads see.
    current: Vec<u8>,
    /// What has survived the last sync.
    durable: Vec<u8>,
    /// Writes since then, in their order.
    cached: Vec<(usize, Vec<u8>)>,
    is_on: bool,
    syncs: u64,
}

/// The disk; clones are the same one.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Media>>);

impl Disk {
    /// With what a formatted image holds.
    pub fn of_image(image: Vec<u8>) -> Disk {
        Disk(Arc::new(Mutex::new(Media {
            current: image.clone(),
            durable: image,
            cached: Vec::new(),
            is_on: true,
            syncs: 0,
        })))
    }

    /// The power goes: all later writes and syncs fail.
    pub fn cut(&self) {
        self.0.lock().is_on = false;
    }

    /// The power comes back, after the processes of before are gone. How many writes were in the cache.
    pub fn power_on(&self, forgets: Forgets, rng: &mut StdRng) -> usize {
        let media = &mut *self.0.lock();
        let cached = std::mem::take(&mut media.cached);
        for (at, bytes) in &cached {
            for (number, sector) in bytes.chunks(512).enumerate() {
                let keeps = match forgets {
                    Forgets::All => false,
                    Forgets::Some => rng.random_bool(0.5),
                    Forgets::Nothing => true,
                };
                if keeps {
                    let at = at + number * 512;
                    media.durable[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        media.current = media.durable.clone();
        media.is_on = true;
        cached.len()
    }

    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), i32> {
        let media = &mut *self.0.lock();
        if !media.is_on {
            return Err(EIO);
        }
        let place = media.current.get_mut(at..at + bytes.len()).ok_or(EIO)?;
        place.copy_from_slice(bytes);
        media.cached.push((at, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> Result<(), i32> {
        let media = &mut *self.0.lock();
        if !media.is_on {
            return Err(EIO);
        }
        for (at, bytes) in media.cached.drain(..) {
            media.durable[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        media.syncs += 1;
        Ok(())
    }

    fn read(&self, at: usize, len: usize) -> Vec<u8> {
        let media = self.0.lock();
        let from = at.min(media.current.len());
        let to = (at + len).min(media.current.len());
        media.current[from..to].to_vec()
    }

    fn len(&self) -> u64 {
        self.0.lock().current.len() as u64
    }
}

/// The disk as a file; unmounted when this is dropped.
pub struct Mounted {
    path: std::path::PathBuf,
}

impl Mounted {
    /// Mounts the disk over the file `path`, which is made.
    pub fn over(path: &Path, disk: &Disk) -> Result<Mounted, String> {
        let failed = |error: std::io::Error| format!("/dev/fuse: {error}");
        File::create(path).map_err(failed)?;
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(failed)?;
        // `mount` finds the open device as its standard input, so no descriptor needs to be inherited by number.
        let options = "fd=0,rootmode=100000,user_id=0,group_id=0,max_read=131072";
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", options, "powercut"]).arg(path);
        mount.stdin(Stdio::from(device.try_clone().map_err(failed)?));
        let disk = disk.clone();
        std::thread::spawn(move || serve(device, &disk));
        super::run(&mut mount)?;
        Ok(Mounted { path: path.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = super::run(Command::new("umount").arg("-l").arg(&self.path));
    }
}

/// Answers the kernel until the file is unmounted.
fn serve(mut device: File, disk: &Disk) {
    let mut request = vec![0; MAX_WRITE + 8_192];
    loop {
        let len = match device.read(&mut request) {
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // Not mounted yet.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            Err(_) => return,
        };
        let request = &request[..len];
        let Some(answer) = answer(request, disk) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let mut out = ((body.len() + 16) as u32).to_ne_bytes().to_vec();
        out.extend(error.to_ne_bytes());
        out.extend(&request[8..16]);
        out.extend(body);
        // A request may have been interrupted: then nobody waits for its answer.
        let _ = device.write_all(&out);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// `None` for what wants no answer.
fn answer(request: &[u8], disk: &Disk) -> Option<Result<Vec<u8>, i32>> {
    let body = &request[IN_HEADER..];
    let empty = Ok(Vec::new());
    Some(match u32_at(request, 4) {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // GETATTR, SETATTR
        3 | 4 => Ok(attributes(disk.len())),
        // OPEN: past the page cache, which a power cut would leave wrong.
        14 => Ok([0_u64.to_ne_bytes(), 1_u64.to_ne_bytes()].concat()),
        // READ
        15 => Ok(disk.read(u64_at(body, 8) as usize, u32_at(body, 16) as usize)),
        // WRITE
        16 => {
            let len = u32_at(body, 16);
            let written = disk.write(u64_at(body, 8) as usize, &body[40..40 + len as usize]);
            written.map(|()| u64::from(len).to_ne_bytes().to_vec())
        }
        // FSYNC
        20 => disk.sync().map(|()| Vec::new()),
        // RELEASE, FLUSH, DESTROY
        18 | 25 | 38 => empty,
        // INIT
        26 => Ok(init()),
        _ => Err(ENOSYS),
    })
}

/// Version 7.31, large writes, everything else as small as it may be.
fn init() -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    let mut out = Vec::new();
    for word in [7, 31, 0, BIG_WRITES, 0x0010_0010, MAX_WRITE as u32, 1] {
        out.extend(word.to_ne_bytes());
    }
    out.resize(64, 0);
    out
}

/// `fuse_attr_out` of a regular file that its owner reads and writes.
fn attributes(len: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0, 0, 1, len, len / 512, 0, 0, 0] {
        out.extend(word.to_ne_bytes());
    }
    for word in [0, 0, 0, 0o100_600, 1, 0, 0, 0, 4_096, 0] {
        out.extend(u32::to_ne_bytes(word));
    }
    out
}
