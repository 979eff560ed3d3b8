//! The processor's widest instructions for plain loops.

/// Functions compiled once for the widest instructions that this processor has and once without.
///
/// What they call must be inlined. Rust neither reorders nor fuses floating-point operations, so
/// the result is the same on every processor.
macro_rules! vectorised {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident$(<$($life:lifetime),+>)?($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block)+) => {$(
        $(#[$doc])*
        $vis fn $name$(<$($life),+>)?($($arg: $type),*) $(-> $out)? {
            struct Kernel$(<$($life),+>)? { $($arg: $type),* }
            impl$(<$($life),+>)? pulp::WithSimd for Kernel$(<$($life),+>)? {
                type Output = $crate::simd::output!($($out)?);
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _simd: S) -> Self::Output {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Kernel { $($arg),* })
        }
    )+};
}

macro_rules! output {
    () => {
        ()
    };
    ($out:ty) => {
        $out
    };
}

pub(crate) use {output, vectorised};
