//! What the heap does with pages once it is to keep them: pages are huge where there are such, and stay when other threads free them; and threads that make
//! little blocks do not wait for each other. A program without the test harness, which has threads before a test begins.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn main() {
    glibc::pages_are_huge_where_there_are_such_and_stay_when_other_threads_free_them();
    glibc::threads_that_make_little_blocks_do_not_wait_for_each_other();
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn main() {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::fs;
    use std::hint::black_box;
    use std::thread;

    use device::heap::{self, CountingAllocator};

    #[global_allocator]
    static HEAP: CountingAllocator = CountingAllocator;

    /// Of a tensor.
    const BYTES: usize = 40 << 20;

    pub(super) fn pages_are_huge_where_there_are_such_and_stay_when_other_threads_free_them() {
        heap::keep_pages();
        let tensor = black_box(vec![1u8; BYTES]);
        assert!(!has_huge_pages() || is_huge(tensor.as_ptr().addr() + BYTES / 2), "{}", smaps());
        drop(tensor);
        let make_tensors = || {
            for _ in 0..8 {
                drop(black_box([vec![1u8; BYTES], vec![1u8; BYTES]]));
            }
        };
        thread::spawn(make_tensors).join().unwrap();
        let before = faults();
        thread::spawn(make_tensors).join().unwrap();
        let new = faults() - before;
        // One tensor has 10,240 pages of 4 KiB; a thread's own memory takes some.
        assert!(new < 1000, "{new} page faults");
    }

    /// What a decoder and a resizer make for an image of 100 x 100.
    const LITTLE: [usize; 6] = [30_000, 3_000, 12_288, 1_500, 60_000, 2_200];

    pub(super) fn threads_that_make_little_blocks_do_not_wait_for_each_other() {
        let make_blocks = || {
            let before = waits();
            for _ in 0..200_000 {
                drop(black_box(LITTLE.map(Vec::<u8>::with_capacity)));
            }
            waits() - before
        };
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(make_blocks)).collect();
        let waits: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        // In one arena of glibc's they wait hundreds of times.
        assert!(waits < 50, "{waits} waits");
    }

    /// How often this thread has stopped to wait for something.
    fn waits() -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    }

    fn has_huge_pages() -> bool {
        let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        setting.is_ok_and(|setting| !setting.contains("[never]"))
    }

    fn smaps() -> String {
        fs::read_to_string("/proc/self/smaps").unwrap()
    }

    /// Whether huge pages were asked for where this address is.
    fn is_huge(address: usize) -> bool {
        let smaps = smaps();
        let mut is_inside = false;
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let range = range.map(|(start, end)| [start, end].map(|text| usize::from_str_radix(text, 16)));
            if let Some([Ok(start), Ok(end)]) = range {
                is_inside = (start..end).contains(&address);
            }
            if is_inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.split_whitespace().any(|flag| flag == "hg");
            }
        }
        false
    }

    /// Pages that this process had to be given, without reading from a disk.
    fn faults() -> u64 {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        // After the name in brackets: state, parent, group, session, terminal, its group, flags, and then the faults.
        stat.rsplit(") ").next().unwrap().split(' ').nth(7).unwrap().parse().unwrap()
    }
}
