//! Which instructions the processor offers, asked once at run time.

/// The way a search takes through the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// int8 products on AVX-512 VNNI choose candidates, f32 on AVX-512 ranks them.
    Avx512Vnni,
    /// f32 matrix products choose candidates, AVX2 ranks them.
    Avx2,
    /// f32 matrix products, whatever the processor.
    Portable,
}

impl Path {
    /// The fastest that this processor has.
    pub fn detect() -> Self {
        *Self::available().first().unwrap_or(&Self::Portable)
    }

    /// All that this processor has, fastest first.
    pub fn available() -> Vec<Self> {
        let mut paths = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                paths.push(Self::Avx512Vnni);
            }
            if avx2 {
                paths.push(Self::Avx2);
            }
        }
        paths.push(Self::Portable);
        paths
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        Self::available().contains(&self)
    }

    /// Panics where this processor has it not, before one of its instructions runs: they would be undefined behaviour.
    pub(crate) fn assert_available(self) {
        assert!(self.is_available(), "this processor has no {}", self.name());
    }

    /// Its name, as in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}
