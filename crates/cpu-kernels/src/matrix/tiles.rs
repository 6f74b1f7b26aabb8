//! The matrix registers of AMX: eight tiles of 16 rows of 64 bytes.
//!
//! Intel, "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1, chapter 18; the kernel's permission:
//! <https://docs.kernel.org/arch/x86/xstate.html>.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::LazyLock;

/// Rows of a tile, and numbers of f32 in one of its rows.
pub(super) const TILE: usize = 16;

/// Rows and columns of the square that [`Registers::multiply`] computes: two tiles by two.
pub(super) const SQUARE: usize = 2 * TILE;

/// Products that a tile of two bf16 a lane sums over at once.
pub(super) const DEPTH: usize = 2 * TILE;

/// Numbers of bf16 that an f32 is the sum of.
pub(super) const LEVELS: usize = 3;

/// One row of a tile: pairs of bf16.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct TileRow(pub(super) [u32; TILE]);

/// Tile rows of one operand of a square, [`DEPTH`] deep: its levels, each of two tiles.
pub(super) const STEP_ROWS: usize = LEVELS * SQUARE;

/// A square of sums, row by row.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(super) struct Square(pub(super) [[f32; SQUARE]; SQUARE]);

/// Whether this process may use the matrix registers for bf16, and has the vector units that pack for them.
pub(super) fn are_there() -> bool {
    static THERE: LazyLock<bool> = LazyLock::new(|| {
        // Leaf 7 of cpuid, register edx: bit 22 is AMX-BF16, bit 24 AMX-TILE.
        const AMX: u32 = 1 << 22 | 1 << 24;
        is_x86_feature_detected!("avx512f") && __cpuid_count(7, 0).edx & AMX == AMX && permitted()
    });
    *THERE
}

/// Asks the kernel for the registers' state, for all threads of this process.
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: this system call reads its two arguments and writes no memory; the clobbers are those of every system call.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// The registers of this thread, set up as full tiles and given back when dropped.
pub(super) struct Registers(());

impl Registers {
    /// # Safety
    /// The registers [`are_there`].
    pub(super) unsafe fn set_up() -> Self {
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(64);
        configuration.rows[..8].fill(16);
        // SAFETY: the caller knows that the registers are there; the configuration is 64 bytes of the one palette there is.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) };
        Self(())
    }

    /// `sums = left * right` over `left.len() / STEP_ROWS` steps of depth: the products of levels whose ranks add up to at most 2, which
    /// leaves out what is below the last bit of f32.
    pub(super) fn multiply(&self, left: &[TileRow], right: &[TileRow], sums: &mut Square) {
        let steps = left.len() / STEP_ROWS;
        assert!(steps > 0 && left.len() == right.len(), "operands of one depth, and of some");
        // SAFETY: the registers are set up, for `self` is there; each step reads STEP_ROWS rows of both slices, and the stores fill the square.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                // Highest times highest, middle, lowest.
                "tileloadd tmm4, [{a} + {row}]", "tileloadd tmm5, [{a} + {row} + 1024]",
                "tileloadd tmm6, [{b} + {row}]", "tileloadd tmm7, [{b} + {row} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm6, [{b} + {row} + 4096]", "tileloadd tmm7, [{b} + {row} + 5120]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm6, [{b} + {row} + 2048]", "tileloadd tmm7, [{b} + {row} + 3072]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                // Middle times middle, highest.
                "tileloadd tmm4, [{a} + {row} + 2048]", "tileloadd tmm5, [{a} + {row} + 3072]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm6, [{b} + {row}]", "tileloadd tmm7, [{b} + {row} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                // Lowest times highest.
                "tileloadd tmm4, [{a} + {row} + 4096]", "tileloadd tmm5, [{a} + {row} + 5120]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 6144", "add {b}, 6144",
                "dec {steps}", "jnz 2b",
                "tilestored [{c} + {sums_row}], tmm0", "tilestored [{c} + {sums_row} + 64], tmm1",
                "tilestored [{d} + {sums_row}], tmm2", "tilestored [{d} + {sums_row} + 64], tmm3",
                a = inout(reg) left.as_ptr() => _,
                b = inout(reg) right.as_ptr() => _,
                c = in(reg) sums.0.as_mut_ptr(),
                d = in(reg) sums.0[TILE..].as_mut_ptr(),
                row = in(reg) 64usize,
                sums_row = in(reg) 4 * SQUARE,
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: the registers are there, for `self` could be made.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}
