// RocksDB's view of the file system, in which some files are not all there yet.
//
// What reads such a file first has the bytes come, and fails where they cannot: the holes of a file are never read as zeros. All ways to read
// are here. Those that RocksDB has for table files wait for what they read; the others wait for the whole file.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rocksdb/env.h"
#include "rocksdb/file_system.h"
#include "rocksdb/version.h"

// Looked at in 11.8: which methods of `FSRandomAccessFile` and `FileSystem` read, and `rocksdb_env_t`.
static_assert(ROCKSDB_MAJOR == 11 && ROCKSDB_MINOR == 8, "look at what reads files, and at rocksdb_env_t, in this version");

using ROCKSDB_NAMESPACE::Env;
using ROCKSDB_NAMESPACE::FileOptions;
using ROCKSDB_NAMESPACE::FileSystem;
using ROCKSDB_NAMESPACE::FileSystemWrapper;
using ROCKSDB_NAMESPACE::FSRandomAccessFile;
using ROCKSDB_NAMESPACE::FSRandomAccessFileOwnerWrapper;
using ROCKSDB_NAMESPACE::FSRandomRWFile;
using ROCKSDB_NAMESPACE::FSReadRequest;
using ROCKSDB_NAMESPACE::FSSequentialFile;
using ROCKSDB_NAMESPACE::FSWritableFile;
using ROCKSDB_NAMESPACE::IODebugContext;
using ROCKSDB_NAMESPACE::IOHandleDeleter;
using ROCKSDB_NAMESPACE::IOOptions;
using ROCKSDB_NAMESPACE::IOStatus;
using ROCKSDB_NAMESPACE::MemoryMappedFileBuffer;
using ROCKSDB_NAMESPACE::Slice;

extern "C" {

// As in RocksDB's db/c.cc: no header has it. `streamd_environment` looks whether it is so.
struct rocksdb_env_t {
  Env* rep;
  bool is_default;
};

rocksdb_env_t* rocksdb_create_default_env();
void rocksdb_env_destroy(rocksdb_env_t*);

struct StreamdPiece {
  uint64_t offset;
  uint64_t length;
};

// The other side, in environment.rs.
struct StreamdCallbacks {
  void* (*find)(const void* files, const char* path, size_t length);
  size_t (*wait_for)(const void* file, const StreamdPiece* pieces, size_t count, char* error, size_t capacity);
  void (*forget_file)(void* file);
  void (*forget_files)(void* files);
};
}

namespace {

constexpr size_t kErrorBytes = 1024;

// A file of which bytes may be missing.
class Partial {
 public:
  Partial(const StreamdCallbacks& callbacks, void* file) : callbacks_(callbacks), file_(file) {}
  ~Partial() { callbacks_.forget_file(file_); }
  Partial(const Partial&) = delete;
  Partial& operator=(const Partial&) = delete;

  IOStatus WaitForPieces(const StreamdPiece* pieces, size_t count) const {
    char error[kErrorBytes];
    const size_t length = callbacks_.wait_for(file_, pieces, count, error, sizeof(error));
    return length == 0 ? IOStatus::OK() : IOStatus::IOError(Slice(error, length));
  }

  IOStatus WaitFor(uint64_t offset, uint64_t length) const {
    const StreamdPiece piece{offset, length};
    return WaitForPieces(&piece, 1);
  }

  IOStatus WaitForAll() const { return WaitFor(0, UINT64_MAX); }

 private:
  const StreamdCallbacks callbacks_;
  void* const file_;
};

class PartialFile final : public FSRandomAccessFileOwnerWrapper {
 public:
  PartialFile(std::unique_ptr<FSRandomAccessFile>&& file, std::unique_ptr<Partial>&& partial)
      : FSRandomAccessFileOwnerWrapper(std::move(file)), partial_(std::move(partial)) {}

  IOStatus Read(uint64_t offset, size_t n, const IOOptions& options, Slice* result, char* scratch,
                IODebugContext* dbg) const override {
    IOStatus here = partial_->WaitFor(offset, n);
    if (!here.ok()) {
      *result = Slice();
      return here;
    }
    return FSRandomAccessFileOwnerWrapper::Read(offset, n, options, result, scratch, dbg);
  }

  IOStatus MultiRead(FSReadRequest* reqs, size_t num_reqs, const IOOptions& options, IODebugContext* dbg) override {
    std::vector<StreamdPiece> pieces;
    pieces.reserve(num_reqs);
    for (size_t i = 0; i < num_reqs; ++i) {
      pieces.push_back({reqs[i].offset, reqs[i].len});
    }
    IOStatus here = partial_->WaitForPieces(pieces.data(), pieces.size());
    return here.ok() ? FSRandomAccessFileOwnerWrapper::MultiRead(reqs, num_reqs, options, dbg) : here;
  }

  // What is announced comes at once, instead of in the small reads that follow.
  IOStatus Prefetch(uint64_t offset, size_t n, const IOOptions& options, IODebugContext* dbg) override {
    IOStatus here = partial_->WaitFor(offset, n);
    return here.ok() ? FSRandomAccessFileOwnerWrapper::Prefetch(offset, n, options, dbg) : here;
  }

  IOStatus ReadAsync(FSReadRequest& req, const IOOptions& opts, std::function<void(FSReadRequest&, void*)> cb,
                     void* cb_arg, void** io_handle, IOHandleDeleter* del_fn, IODebugContext* dbg) override {
    IOStatus here = partial_->WaitFor(req.offset, req.len);
    return here.ok() ? FSRandomAccessFileOwnerWrapper::ReadAsync(req, opts, std::move(cb), cb_arg, io_handle, del_fn, dbg)
                     : here;
  }

  bool SubmitReadAsync(FSReadRequest& req, const IOOptions& opts, std::function<void(FSReadRequest&)> cb,
                       IODebugContext* dbg) override {
    req.status = partial_->WaitFor(req.offset, req.len);
    if (!req.status.ok()) {
      cb(req);
      return false;
    }
    return FSRandomAccessFileOwnerWrapper::SubmitReadAsync(req, opts, std::move(cb), dbg);
  }

 private:
  const std::unique_ptr<Partial> partial_;
};

class PartialFileSystem final : public FileSystemWrapper {
 public:
  PartialFileSystem(const StreamdCallbacks& callbacks, void* files)
      : FileSystemWrapper(FileSystem::Default()), callbacks_(callbacks), files_(files) {}
  ~PartialFileSystem() override { callbacks_.forget_files(files_); }

  const char* Name() const override { return "streamd"; }

  IOStatus NewRandomAccessFile(const std::string& f, const FileOptions& file_opts,
                               std::unique_ptr<FSRandomAccessFile>* r, IODebugContext* dbg) override {
    // First: what is found to be there once it is open may have been missing before, but not the other way round.
    std::unique_ptr<Partial> partial = Find(f);
    IOStatus opened = FileSystemWrapper::NewRandomAccessFile(f, file_opts, r, dbg);
    if (opened.ok() && partial != nullptr) {
      *r = std::make_unique<PartialFile>(std::move(*r), std::move(partial));
    }
    return opened;
  }

  IOStatus NewSequentialFile(const std::string& f, const FileOptions& file_opts, std::unique_ptr<FSSequentialFile>* r,
                             IODebugContext* dbg) override {
    IOStatus here = WaitForAll(f);
    return here.ok() ? FileSystemWrapper::NewSequentialFile(f, file_opts, r, dbg) : here;
  }

  IOStatus ReopenWritableFile(const std::string& f, const FileOptions& file_opts, std::unique_ptr<FSWritableFile>* r,
                              IODebugContext* dbg) override {
    IOStatus here = WaitForAll(f);
    return here.ok() ? FileSystemWrapper::ReopenWritableFile(f, file_opts, r, dbg) : here;
  }

  IOStatus NewRandomRWFile(const std::string& f, const FileOptions& file_opts, std::unique_ptr<FSRandomRWFile>* r,
                           IODebugContext* dbg) override {
    IOStatus here = WaitForAll(f);
    return here.ok() ? FileSystemWrapper::NewRandomRWFile(f, file_opts, r, dbg) : here;
  }

  IOStatus NewMemoryMappedFileBuffer(const std::string& f, std::unique_ptr<MemoryMappedFileBuffer>* r) override {
    IOStatus here = WaitForAll(f);
    return here.ok() ? FileSystemWrapper::NewMemoryMappedFileBuffer(f, r) : here;
  }

 private:
  std::unique_ptr<Partial> Find(const std::string& path) const {
    void* file = callbacks_.find(files_, path.data(), path.size());
    return file == nullptr ? nullptr : std::make_unique<Partial>(callbacks_, file);
  }

  IOStatus WaitForAll(const std::string& path) const {
    const std::unique_ptr<Partial> partial = Find(path);
    return partial == nullptr ? IOStatus::OK() : partial->WaitForAll();
  }

  const StreamdCallbacks callbacks_;
  void* const files_;
};

// Whether RocksDB's C interface lays out environments as they are above.
bool IsLaidOutSo() {
  rocksdb_env_t* known = rocksdb_create_default_env();
  const bool is_so = known->rep == Env::Default() && known->is_default;
  rocksdb_env_destroy(known);
  return is_so;
}

}  // namespace

extern "C" rocksdb_env_t* streamd_environment(void* files, const StreamdCallbacks* callbacks) {
  auto file_system = std::make_shared<PartialFileSystem>(*callbacks, files);
  if (!IsLaidOutSo()) {
    return nullptr;
  }
  // Threads, clocks and all that is not a file are those of everybody.
  return new rocksdb_env_t{ROCKSDB_NAMESPACE::NewCompositeEnv(file_system).release(), false};
}
