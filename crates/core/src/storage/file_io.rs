//! `iceberg`'s `Storage` trait over [`Storage`]: what the `iceberg` crate reads and writes goes to the same stores.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, StorageConfig,
    StorageFactory,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::Storage;
use crate::error::Error;

type IcebergResult<T> = iceberg::Result<T>;

impl Storage {
    /// An [`FileIO`] over the same stores, for code that is built on the `iceberg` crate.
    pub fn file_io(&self) -> FileIO {
        FileIOBuilder::new(Arc::new(Factory { storage: self.clone() })).build()
    }
}

// `typetag` asks for serde. A deserialised factory finds its stores by URL, as a new `Storage` does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Factory {
    #[serde(skip)]
    storage: Storage,
}

#[typetag::serde(name = "IcefieldStorageFactory")]
impl StorageFactory for Factory {
    fn build(&self, _config: &StorageConfig) -> IcebergResult<Arc<dyn iceberg::io::Storage>> {
        Ok(Arc::new(Adapter { storage: self.storage.clone() }))
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Adapter {
    #[serde(skip)]
    storage: Storage,
}

#[async_trait]
#[typetag::serde(name = "IcefieldStorage")]
impl iceberg::io::Storage for Adapter {
    async fn exists(&self, path: &str) -> IcebergResult<bool> {
        Ok(self.storage.exists(path).await?)
    }

    async fn metadata(&self, path: &str) -> IcebergResult<FileMetadata> {
        Ok(FileMetadata { size: self.storage.size(path).await? })
    }

    async fn read(&self, path: &str) -> IcebergResult<Bytes> {
        Ok(self.storage.read(path).await?)
    }

    async fn reader(&self, path: &str) -> IcebergResult<Box<dyn FileRead>> {
        Ok(Box::new(Reader { storage: self.storage.clone(), path: path.to_string() }))
    }

    async fn write(&self, path: &str, bs: Bytes) -> IcebergResult<()> {
        Ok(self.storage.write(path, bs).await?)
    }

    async fn writer(&self, path: &str) -> IcebergResult<Box<dyn FileWrite>> {
        Ok(Box::new(Writer { inner: self.storage.writer(path)?, path: path.to_string() }))
    }

    async fn delete(&self, path: &str) -> IcebergResult<()> {
        Ok(self.storage.delete(path).await?)
    }

    async fn delete_prefix(&self, path: &str) -> IcebergResult<()> {
        let mut files = self.storage.list(path);
        while let Some(file) = files.next().await {
            self.storage.delete(&file?.location).await?;
        }
        Ok(())
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> IcebergResult<()> {
        while let Some(path) = paths.next().await {
            self.storage.delete(&path).await?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> IcebergResult<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_string()))
    }

    fn new_output(&self, path: &str) -> IcebergResult<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_string()))
    }
}

struct Reader {
    storage: Storage,
    path: String,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> IcebergResult<Bytes> {
        Ok(self.storage.read_range(&self.path, range).await?)
    }
}

struct Writer {
    inner: object_store::buffered::BufWriter,
    path: String,
}

impl Writer {
    fn failed(&self, error: impl Into<Error>) -> iceberg::Error {
        error.into().with("file", &self.path).into()
    }
}

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bs: Bytes) -> IcebergResult<()> {
        self.inner.put(bs).await.map_err(|e| self.failed(e))
    }

    async fn close(&mut self) -> IcebergResult<()> {
        self.inner.shutdown().await.map_err(|e| self.failed(e))
    }
}
