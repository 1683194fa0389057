//! What can be read from.

use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::store::collection::memo::Memo;
use crate::store::handle::{Inner, Store};
use crate::store::index::Index;
use crate::store::snapshot::StoreSnapshot;
use crate::store::txn::{ReadTxn, WriteTxn};

/// What can be read from: a [`Store`], which is its newest commit at each call; a
/// [`StoreSnapshot`]; a [`ReadTxn`]; a [`WriteTxn`], which shows what it has written.
///
/// No other type can be one.
pub trait Reads: sealed::Sealed {
    /// Works with a reader of an index.
    ///
    /// # Errors
    /// As [`Reader::open`], those of beginning a transaction, and what `work` returns.
    fn with_reader<R, E: From<Error>>(
        &self,
        index: &Index,
        work: impl FnOnce(&Reader<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.with_reader_of(index.number(), work)
    }
}

#[allow(private_interfaces, reason = "nobody else can name, implement or call what is sealed")]
pub(crate) mod sealed {
    use heed::RoTxn;

    use super::{Error, Inner, Memo, Reader, Result};

    #[allow(unreachable_pub)]
    pub trait Sealed {
        #[doc(hidden)]
        fn with_reader_of<R, E: From<Error>>(
            &self,
            index: u16,
            work: impl FnOnce(&Reader<'_>) -> Result<R, E>,
        ) -> Result<R, E>;

        /// As `with_reader_of`, with what is remembered of the commit, if anything is.
        #[doc(hidden)]
        fn with_memo_of<R, E: From<Error>>(
            &self,
            index: u16,
            work: impl FnOnce(&Reader<'_>, Option<&Memo>) -> Result<R, E>,
        ) -> Result<R, E>;

        #[doc(hidden)]
        fn inner(&self) -> &Inner;

        #[doc(hidden)]
        fn with_txn_of<R, E: From<Error>>(
            &self,
            work: impl FnOnce(&RoTxn<'_>) -> Result<R, E>,
        ) -> Result<R, E>;
    }
}

impl Reads for Store {}
impl Reads for StoreSnapshot {}
impl Reads for ReadTxn<'_> {}
impl Reads for WriteTxn<'_> {}

macro_rules! sealed {
    (
        $type:ty, |$self:ident, $index:ident, $work:ident| $reader:expr, $memo:expr, $txn:expr,
        $inner:expr
    ) => {
        #[allow(private_interfaces, reason = "as in the trait")]
        impl sealed::Sealed for $type {
            fn with_reader_of<R, E: From<Error>>(
                &self,
                $index: u16,
                $work: impl FnOnce(&Reader<'_>) -> Result<R, E>,
            ) -> Result<R, E> {
                let $self = self;
                $reader
            }

            fn with_memo_of<R, E: From<Error>>(
                &self,
                $index: u16,
                $work: impl FnOnce(&Reader<'_>, Option<&Memo>) -> Result<R, E>,
            ) -> Result<R, E> {
                let $self = self;
                $memo
            }

            fn inner(&self) -> &Inner {
                let $self = self;
                $inner
            }

            fn with_txn_of<R, E: From<Error>>(
                &self,
                $work: impl FnOnce(&heed::RoTxn<'_>) -> Result<R, E>,
            ) -> Result<R, E> {
                let $self = self;
                $txn
            }
        }
    };
}

sealed!(
    Store,
    |this, index, work| this.snapshot()?.with_reader_of(index, work),
    this.snapshot()?.with_memo_of(index, work),
    this.snapshot()?.with_txn(work),
    &this.inner
);
sealed!(
    StoreSnapshot,
    |this, index, work| StoreSnapshot::with_reader_of(this, index, work),
    this.with_reader_of(index, |reader| work(reader, Some(this.memo()))),
    this.with_txn(work),
    this.store()
);
sealed!(
    ReadTxn<'_>,
    |this, index, work| work(&this.reader_of(index)?),
    work(&this.reader_of(index)?, None),
    work(this.as_heed()),
    this.store()
);
sealed!(
    WriteTxn<'_>,
    |this, index, work| work(&this.reader_of(index)?),
    work(&this.reader_of(index)?, None),
    work(this.as_heed()),
    this.store()
);
