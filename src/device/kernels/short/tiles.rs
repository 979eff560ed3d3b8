//! The small kernel on tiles: AMX, which multiplies 16 rows with 16 columns at once.
//!
//! Intel, "Intrinsics for AMX" and "64 and IA-32 Architectures Software Developer's Manual", volume 1, chapter 18: a
//! tile holds 16 lines of 64 bytes; the system lends tiles to a process that asks.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::mem::MaybeUninit;
use std::sync::LazyLock;

use super::panels::{COLUMNS, LINE, lines};

/// Rows of a panel of the left side: with [`COLUMNS`], four tiles of sums.
pub(super) const ROWS: usize = 2 * LINE;
/// Words of a panel that are multiplied at once: a panel of rows stays in the nearest cache.
pub(super) const DEPTH: usize = 256;
/// Bytes from a tile's line to the next: of rows, and of columns and sums.
const ROW_STEP: usize = LINE * size_of::<u32>();
const COLUMN_STEP: usize = COLUMNS * size_of::<u32>();

/// Whether this processor has tiles for bf16, and the system lends them.
pub(super) fn are_native() -> bool {
    static NATIVE: LazyLock<bool> = LazyLock::new(|| {
        const BF16: u32 = 1 << 22;
        const TILE: u32 = 1 << 24;
        let features = __cpuid_count(7, 0).edx;
        features & BF16 != 0 && features & TILE != 0 && lent()
    });
    *NATIVE
}

/// Asks Linux for the state of tiles, once for all threads.
#[cfg(target_os = "linux")]
fn lent() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    #[expect(unsafe_code, reason = "a call that no library has")]
    // SAFETY: it reads no memory, and only allows more.
    unsafe {
        libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn lent() -> bool {
    false
}

/// Some rows of the left side, `PARTS` lines for each of a row: `[depth / LINE, PARTS, ROWS, LINE]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack<const PARTS: usize>(x: &[f32], k: usize, panel: &mut [MaybeUninit<u32>]) {
    lines::<PARTS>(x, k, ROWS, |r, i, parts| {
        for (part, line) in parts.iter().enumerate() {
            panel[((i * PARTS + part) * ROWS + r) * LINE..][..LINE].write_copy_of_slice(line);
        }
    });
}

/// The tiles of a thread, for as long as this lives.
pub(super) struct Tiles(());

impl Tiles {
    /// # Panics
    ///
    /// There are none.
    pub(super) fn begin() -> Self {
        /// 16 lines of 64 bytes in each of eight tiles.
        #[repr(C, align(64))]
        struct Sizes {
            palette: u8,
            others: [u8; 15],
            bytes: [u16; 16],
            lines: [u8; 16],
        }
        assert!(are_native(), "a processor with tiles");
        let eight = |all: u8| std::array::from_fn(|i| if i < 8 { all } else { 0 });
        let sizes = Sizes { palette: 1, others: [0; 15], bytes: eight(64).map(u16::from), lines: eight(16) };
        #[expect(unsafe_code, reason = "an instruction that no function stands for")]
        // SAFETY: there are tiles, and the sizes are those of palette 1.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const sizes, options(nostack, preserves_flags));
        }
        Self(())
    }

    /// The sums of a panel of rows, as `parts` lines each, with one of columns: `[ROWS, COLUMNS]`.
    #[expect(clippy::unused_self, reason = "whoever has tiles has begun them")]
    pub(super) fn multiply(&mut self, rows: &[u32], parts: usize, columns: &[u32], out: &mut [f32]) {
        let n_lines = columns.len() / (COLUMNS * LINE);
        assert!(parts * n_lines > 0 && rows.len() >= parts * n_lines * ROWS * LINE);
        assert!(out.len() >= ROWS * COLUMNS);
        #[expect(unsafe_code, reason = "instructions that no function stands for")]
        // SAFETY: the loops read `n_lines` times two tiles of columns and `parts` times two of rows, and four are written;
        // the slices hold them. The tiles are this thread's, with the sizes that were given.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{columns} + {column_step}]",
                "tileloadd tmm7, [{columns} + {column_step} + 64]",
                "mov {part}, {parts}",
                "3:",
                "tileloadd tmm4, [{rows} + {row_step}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{rows} + {row_step} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {rows}, 2048",
                "dec {part}",
                "jnz 3b",
                "add {columns}, 2048",
                "dec {n_lines}",
                "jnz 2b",
                "tilestored [{out} + {column_step}], tmm0",
                "tilestored [{out} + {column_step} + 64], tmm1",
                "tilestored [{out} + {column_step} + 2048], tmm2",
                "tilestored [{out} + {column_step} + 2112], tmm3",
                rows = inout(reg) rows.as_ptr() => _,
                columns = inout(reg) columns.as_ptr() => _,
                n_lines = inout(reg) n_lines => _,
                parts = in(reg) parts,
                part = out(reg) _,
                out = in(reg) out.as_mut_ptr(),
                row_step = in(reg) ROW_STEP,
                column_step = in(reg) COLUMN_STEP,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "an instruction that no function stands for")]
        // SAFETY: the tiles were begun by this thread, and hold nothing that is needed.
        unsafe {
            asm!("tilerelease", options(nostack, preserves_flags, nomem));
        }
    }
}
