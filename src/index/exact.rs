//! Exact search where the options say: on the processor, or on a GPU.

use outskirt_exact::{Exact, Layout, RowNumber};

#[cfg(feature = "torch")]
use super::device::{DeviceBank, require_cuda};
use super::neighbor_index::{NeighborIndex, row_number};
use super::options::{Device, SearchOptions};
use super::processor::Processor;
use super::vectors::Rows;
#[cfg(not(feature = "torch"))]
use crate::error::Error;
use crate::error::Result;

/// Exact search of normalised vectors, whose ids are given in their order, where the options say.
///
/// Errors: a device that is not there.
pub(crate) fn exact(rows: Rows, ids: &[u64], k: usize, options: SearchOptions) -> Result<Box<dyn NeighborIndex>> {
    match options.device {
        Device::Cpu => {
            let layout = Layout { k, path: options.instructions, ..Layout::default() };
            let dimension = rows.dimension();
            let mut bank = Exact::new(rows, layout);
            let mut ascending: Vec<u64> = ids.to_vec();
            ascending.sort_unstable();
            if ascending != ids {
                let numbers: Vec<Option<RowNumber>> = ids.iter().map(|&id| row_number(&ascending, id)).collect();
                bank.change(&Rows::with_capacity(0, dimension), &numbers);
            }
            Ok(Box::new(Processor::new(bank, ascending.into())))
        }
        Device::Cuda => on_cuda(&rows),
    }
}

#[cfg(feature = "torch")]
fn on_cuda(rows: &Rows) -> Result<Box<dyn NeighborIndex>> {
    let values = std::sync::Arc::new(rows.to_values());
    Ok(Box::new(DeviceBank::new(values, rows.dimension(), require_cuda(None)?, None, None)?))
}

#[cfg(not(feature = "torch"))]
fn on_cuda(_rows: &Rows) -> Result<Box<dyn NeighborIndex>> {
    Err(Error::NoTorch { what: "outskirt.device = 'cuda'".into() })
}

/// The device must be there before a bank is read for it.
pub(crate) fn check_device(device: Device) -> Result<()> {
    match device {
        Device::Cpu => Ok(()),
        #[cfg(feature = "torch")]
        Device::Cuda => require_cuda(None).map(|_| ()),
        #[cfg(not(feature = "torch"))]
        Device::Cuda => Err(Error::NoTorch { what: "outskirt.device = 'cuda'".into() }),
    }
}
