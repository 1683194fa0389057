//! A server with tokio: searches on threads that may block, one writer fed by a channel.
//!
//! ```text
//! cargo run --release --example tokio            # in a temporary folder
//! ```
//!
//! A search computes, and may wait for the disk; a commit waits for it always. Neither belongs on a
//! thread of the executor: others would wait with it. A heartbeat shows that none is blocked here.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use spinney::{BuildOptions, Hits, Index, IndexOptions, Metric, Reads, Store};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};

/// Errors that can be handed from thread to thread.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const DIMS: usize = 64;
const ITEMS: u32 = 20_000;
const SEARCHING_CLIENTS: u64 = 8;
const SEARCHES_EACH: u64 = 500;
const WRITING_CLIENTS: u64 = 32;
const WRITES_EACH: u32 = 50;
/// Writes that are committed together, at most.
const BATCH: usize = 1000;
const HEARTBEAT: Duration = Duration::from_millis(1);

/// An item to be stored, and whom to tell when it is on the disk.
struct Write {
    id: u32,
    vector: Vec<f32>,
    done: oneshot::Sender<spinney::Result<()>>,
}

/// What each request needs. Cheap to clone.
#[derive(Clone)]
struct Server {
    store: Store,
    index: Index,
    /// As many searches at once as there are processors: more would only wait.
    searching: Arc<Semaphore>,
    writes: mpsc::Sender<Write>,
    /// Microseconds of threads that may block.
    busy: Arc<AtomicU64>,
}

impl Server {
    async fn search(&self, query: Vec<f32>, k: usize) -> Result<Hits> {
        let _permit = self.searching.acquire().await?;
        let this = self.clone();
        let hits = spawn_blocking(move || {
            let start = Instant::now();
            // The newest commit. As long as nothing is committed, it is as warm as a kept one.
            let hits =
                this.store.with_reader(&this.index, |reader| reader.nns(k).by_vector(&query));
            add(&this.busy, start);
            hits
        });
        Ok(hits.await??)
    }

    /// Returns when the item is on the disk.
    async fn put(&self, id: u32, vector: Vec<f32>) -> Result<()> {
        let (done, told) = oneshot::channel();
        self.writes.send(Write { id, vector, done }).await?;
        Ok(told.await??)
    }
}

/// The one writer: takes what has come meanwhile, and commits it together. Returns how many commits
/// it made.
fn write(store: &Store, index: &Index, mut writes: mpsc::Receiver<Write>, busy: &AtomicU64) -> u64 {
    let mut commits = 0;
    let mut batch = Vec::new();
    while let Some(first) = writes.blocking_recv() {
        let start = Instant::now();
        batch.push(first);
        while batch.len() < BATCH
            && let Ok(next) = writes.try_recv()
        {
            batch.push(next);
        }
        // This may run again, if the map has to grow: it changes nothing but the store. A vector
        // that is refused changes nothing, and the others are committed all the same.
        let added = store.write(|txn| {
            let results = batch.iter().map(|write| index.add_item(txn, write.id, &write.vector));
            Ok::<_, spinney::Error>(results.collect::<Vec<_>>())
        });
        commits += 1;
        match added {
            Ok(results) => {
                for (write, result) in batch.drain(..).zip(results) {
                    // Who asked may have gone away.
                    let _ = write.done.send(result);
                }
            }
            Err(error) => {
                // Who asked learns by the channel that nothing was committed.
                eprintln!("{} writes failed: {error}", batch.len());
                batch.clear();
            }
        }
        add(busy, start);
    }
    commits
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path())?;
    let index = store.index("items", &IndexOptions::new(DIMS, Metric::Cosine))?;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let ids: Vec<u32> = (0..ITEMS).collect();
    let vectors: Vec<f32> = ids.iter().flat_map(|_| vector(&mut rng)).collect();
    store.write(|txn| {
        index.add_items(txn, &ids, &vectors)?;
        index.build(txn, &BuildOptions::default()).map(|_| ())
    })?;
    // One executor thread: if anything blocked it, nothing else would go on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(serve(store, index))
}

async fn serve(store: Store, index: Index) -> Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let (writes, incoming) = mpsc::channel(BATCH);
    let busy = Arc::new(AtomicU64::new(0));
    let writer = {
        let (store, index, busy) = (store.clone(), index.clone(), busy.clone());
        spawn_blocking(move || write(&store, &index, incoming, &busy))
    };
    let searching = Arc::new(Semaphore::new(threads));
    let server = Server { store, index, searching, writes, busy: busy.clone() };

    let is_over = Arc::new(AtomicBool::new(false));
    let heart = tokio::spawn(beat(is_over.clone()));
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for seed in 0..SEARCHING_CLIENTS {
        clients.spawn(search_often(server.clone(), seed));
    }
    for number in 0..WRITING_CLIENTS {
        clients.spawn(put_often(server.clone(), number));
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let time = start.elapsed().as_secs_f64();
    is_over.store(true, Ordering::SeqCst);
    let (beats, largest) = heart.await?;

    let count =
        server.store.with_reader(&server.index, |reader| Ok::<_, spinney::Error>(reader.len()))?;
    let (searches, puts) =
        (SEARCHING_CLIENTS * SEARCHES_EACH, WRITING_CLIENTS * u64::from(WRITES_EACH));
    assert_eq!(count, u64::from(ITEMS) + puts, "each write that was told is there");
    // The writer ends when nobody can write any more.
    drop(server);
    let commits = writer.await?;
    let busy = Duration::from_micros(busy.load(Ordering::SeqCst));
    println!("{searches} searches and {puts} writes in {commits} commits, in {time:.2} s:");
    println!(
        "  {:.0} searches and {:.0} writes a second",
        searches as f64 / time,
        puts as f64 / time
    );
    println!("  threads that may block were busy for {:.2} s", busy.as_secs_f64());
    println!("  the executor: {beats} heartbeats, the largest gap {:.1} ms", milliseconds(largest));
    Ok(())
}

async fn search_often(server: Server, seed: u64) -> Result<()> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    for _ in 0..SEARCHES_EACH {
        let hits = server.search(vector(&mut rng), 10).await?;
        assert_eq!(hits.len(), 10);
    }
    Ok(())
}

async fn put_often(server: Server, number: u64) -> Result<()> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1000 + number);
    for i in 0..WRITES_EACH {
        let id = ITEMS + u32::try_from(number)? * WRITES_EACH + i;
        server.put(id, vector(&mut rng)).await?;
    }
    Ok(())
}

/// Wakes up again and again. Returns how often, and the longest time that it had to wait.
async fn beat(is_over: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut beats, mut largest, mut last) = (0, Duration::ZERO, Instant::now());
    while !is_over.load(Ordering::SeqCst) {
        tokio::time::sleep(HEARTBEAT).await;
        largest = largest.max(last.elapsed());
        last = Instant::now();
        beats += 1;
    }
    (beats, largest)
}

fn vector(rng: &mut Xoshiro256PlusPlus) -> Vec<f32> {
    (0..DIMS).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn add(busy: &AtomicU64, start: Instant) {
    let time = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    busy.fetch_add(time, Ordering::SeqCst);
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
