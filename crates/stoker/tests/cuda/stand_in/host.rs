//! Compiles kernels for this machine: CubeCL hands NVRTC a source in C++, and any C++ compiler takes it where `computing/` is CUDA's side of it.
//!
//! - `STAND_IN_COMPUTES`: a folder with `liblanes.so`, compiled from `computing/lanes.cpp`. Libraries of kernels are kept in its folder `kernels`, by
//!   what their source is and what the headers are.
//! - `STAND_IN_HEADERS`: where `computing/` is.
//! - `CXX`: the compiler, `c++` when unset.
//!
//! A kernel that asks for what the headers lack is refused, as NVRTC refuses one that a card cannot take, and another is tried in its place: that is so
//! for what cards have since Hopper alone. The log stays in `kernels`.

use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What came of a source.
pub struct Compiled {
    /// The path of the library, which is what the driver is handed as code; none when the compiler refused.
    pub code: Option<CString>,
    /// What the compiler said.
    pub log: CString,
}

impl Compiled {
    /// The code; nothing when there is none.
    pub fn code(&self) -> &CStr {
        self.code.as_deref().unwrap_or(c"")
    }
}

/// Numbers are taken as a card takes them: no product is contracted with a sum that the source does not, and memory may be read as another type.
const OPTIONS: [&str; 11] = [
    "-std=c++17",
    "-O1",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-shared",
    "-fPIC",
    "-w",
    "-include",
    "stand_in.h",
    "-include",
    "ptx.h",
];

/// Compiles a source, or finds it compiled.
pub fn compile(folder: &Path, source: &CStr) -> Compiled {
    let text = completed(source.to_str().expect("sources are text"));
    let headers = PathBuf::from(std::env::var_os("STAND_IN_HEADERS").expect("headers are somewhere"));
    let mut hasher = DefaultHasher::new();
    (&text, read(&headers)).hash(&mut hasher);
    let kernels = folder.join("kernels");
    fs::create_dir_all(&kernels).expect("the folder is writable");
    let stem = kernels.join(format!("{:016x}", hasher.finish()));
    let library = stem.with_extension("so");
    if library.exists() {
        return Compiled { code: Some(path_of(&library)), log: CString::default() };
    }
    // Processes may compile the same: each for itself, and the last one's library stays.
    let own = |kind: &str| stem.with_extension(format!("{}.{kind}", std::process::id()));
    let (file, part) = (own("cpp"), own("so"));
    fs::write(&file, text).expect("the folder is writable");
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut command = Command::new(compiler);
    command.args(OPTIONS).arg("-I").arg(headers).arg(&file).arg("-o").arg(&part);
    // The folder with this very library is no place for a compiler to load from.
    let output = command.env_remove("LD_LIBRARY_PATH").output().expect("there is a C++ compiler");
    let log = CString::new(output.stderr.into_iter().filter(|byte| *byte != 0).collect::<Vec<_>>()).expect("no zeros");
    if !output.status.success() {
        let _ = fs::write(stem.with_extension("log"), log.as_bytes());
        return Compiled { code: None, log };
    }
    fs::rename(&part, &library).expect("it is the same folder");
    // The source stays beside it, for who looks into what went wrong.
    let _ = fs::rename(&file, stem.with_extension("cpp"));
    Compiled { code: Some(path_of(&library)), log }
}

/// What the headers are.
fn read(headers: &Path) -> Vec<String> {
    let names = ["stand_in.h", "ptx.h", "halves.h", "mma.h", "cuda/barrier"];
    names.map(|name| fs::read_to_string(headers.join(name)).expect("the headers are there")).to_vec()
}

fn path_of(library: &PathBuf) -> CString {
    CString::new(library.as_os_str().as_encoded_bytes()).expect("a path has no zeros")
}

/// A kernel's source with what its block shares in its place, calls for inline PTX, and a function that is called as a driver calls.
fn completed(text: &str) -> String {
    let head = text.split("__launch_bounds__").nth(1).expect("a source has a kernel");
    let name = head.split_once(')').and_then(|(_, rest)| rest.split_once('(')).expect("it has a name").0.trim();
    let mut whole = in_step(&without_assembly(&with_shared_memory(text)));
    let _ = write!(
        whole,
        "\nextern \"C\" void stand_in_kernel(void **values) {{ stand_in::call({name}, values); }}\n\
         extern \"C\" const char stand_in_name[] = \"{name}\";\n"
    );
    whole
}

/// Behind their last product, kernels for tensor cores leave sums in shared memory, take those of other lanes from there, and leave the next, with
/// nothing between: they count on a warp whose lanes go through the same code in step. Here they meet before and after each number that is left.
fn in_step(text: &str) -> String {
    let Some(last) = text.rfind("mma_sync") else { return text.to_owned() };
    let (products, behind) = text.split_at(last);
    let mut whole = products.to_owned();
    for line in behind.lines() {
        let _ = match line.starts_with('*') {
            true => writeln!(whole, "{MEETING}\n{line} {MEETING}"),
            false => writeln!(whole, "{line}"),
        };
    }
    whole
}

/// Lanes meet by the line that they are at.
const MEETING: &str = "stand_in::give(__LINE__, 0);";

/// `extern __shared__ .. char name[];` begins at the same place under every name.
fn with_shared_memory(text: &str) -> String {
    let mut parts = text.split("extern __shared__");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (declaration, rest) = part.split_once("[];").expect("an array without a length");
        let name = declaration.rsplit(' ').next().unwrap_or_default();
        let _ = write!(whole, "char *const {name} = stand_in::stand_in_shared;{rest}");
    }
    whole
}

/// `asm volatile("cp.async.x [%0], [%1], 16;" : "=r"(a) : "r"(b));` becomes `stand_in_ptx_cp_async_x(a, b, 16);`.
fn without_assembly(text: &str) -> String {
    let mut parts = text.split("asm volatile(");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (statement, rest) = part.split_once(");").expect("a statement ends");
        let mut quoted = statement.split('"');
        let mut words = quoted.nth(1).unwrap_or_default().split([' ', ',', ';']);
        let instruction = words.next().unwrap_or_default().replace(['.', ':'], "_");
        let is_number = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        // Behind the string it is constraints, in quotes, and after each its operand in parentheses.
        let operands: Vec<&str> = quoted.filter_map(operand).chain(words.filter(is_number)).collect();
        let _ = write!(whole, "stand_in_ptx_{instruction}({});{rest}", operands.join(", "));
    }
    whole
}

/// `name` of `(name)`, with or without what comes before the next constraint.
fn operand(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix('(')?;
    Some(inner.rsplit_once(')').map_or(inner, |(name, _)| name).trim())
}
