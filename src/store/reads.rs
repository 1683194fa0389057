//! What can be read from.

use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::snapshot::batch::Work;
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
        index.check(self.inner())?;
        self.with_memo_of(index.number(), |reader, _| work(reader))
    }
}

#[allow(private_interfaces, reason = "nobody else can name, implement or call what is sealed")]
pub(crate) mod sealed {
    use super::{Error, Inner, Memo, Reader, Result, StoreSnapshot, Work};

    #[allow(unreachable_pub)]
    pub trait Sealed {
        /// With what is remembered of the commit, if anything is.
        #[doc(hidden)]
        fn with_memo_of<R, E: From<Error>>(
            &self,
            index: u16,
            work: impl FnOnce(&Reader<'_>, Option<&Memo>) -> Result<R, E>,
        ) -> Result<R, E>;

        /// Calls `work` for each of `0..count` with a reader of an index: by several threads, where
        /// each can have a transaction of the same commit.
        #[doc(hidden)]
        fn each_of(&self, index: u16, count: usize, work: &Work<'_>) -> Result<()> {
            self.with_memo_of(index, |reader, _| (0..count).try_for_each(|i| work(reader, i)))
        }

        /// What shows one commit, if this shows the newest at each call.
        #[doc(hidden)]
        fn pinned(&self) -> Result<Option<StoreSnapshot>> {
            Ok(None)
        }

        #[doc(hidden)]
        fn inner(&self) -> &Inner;
    }
}

impl Reads for Store {}
impl Reads for StoreSnapshot {}
impl Reads for ReadTxn<'_> {}
impl Reads for WriteTxn<'_> {}

macro_rules! sealed {
    (
        $type:ty, |$self:ident, $index:ident, $work:ident| $memo:expr, $inner:expr
        $(, $more:item)*
    ) => {
        #[allow(private_interfaces, reason = "as in the trait")]
        impl sealed::Sealed for $type {
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

            $($more)*
        }
    };
}

sealed!(
    Store,
    |this, index, work| this.snapshot()?.with_memo_of(index, work),
    &this.inner,
    fn pinned(&self) -> Result<Option<StoreSnapshot>> {
        self.snapshot().map(Some)
    }
);
sealed!(
    StoreSnapshot,
    |this, index, work| this.with_reader_of(index, |reader| work(reader, Some(this.memo()))),
    this.store(),
    fn each_of(&self, index: u16, count: usize, work: &Work<'_>) -> Result<()> {
        self.each_reader(index, count, work).map(|_| ())
    }
);
sealed!(ReadTxn<'_>, |this, index, work| work(&this.reader_of(index)?, None), this.store());
sealed!(WriteTxn<'_>, |this, index, work| work(&this.reader_of(index)?, None), this.store());
