//! Changing an uncompressed object's encoding on its way to the file.

use pyserver_proto::transfer_syntax::TransferSyntax;

use crate::error::StoreError;

/// A conversion under way.
pub(crate) enum Converter {}

impl Converter {
    /// The conversion between two syntaxes, if they differ.
    pub(crate) fn new(_received: TransferSyntax, _stored: TransferSyntax) -> Option<Self> {
        None
    }

    /// Converts the next bytes.
    pub(crate) fn push(&mut self, _bytes: &[u8], _out: &mut Vec<u8>) -> Result<(), StoreError> {
        match *self {}
    }

    /// Ends the data set.
    pub(crate) fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), StoreError> {
        match *self {}
    }
}
