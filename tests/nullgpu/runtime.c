// A CUDA runtime without a GPU, to be loaded before torch (LD_PRELOAD).
//
// Memory is counted against NULLGPU_MEMORY bytes and lies in the host's address space, untouched until something is
// copied to it. Small copies are made, large ones and all kernels are not. Streams, events and captures keep the state
// that CUDA documents, so that a capture breaks here where it breaks there: where the host waits, or allocates.

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GRANULE ((size_t)2 << 20)    // what the driver rounds an allocation up to
#define COPIED ((size_t)1 << 20)     // larger copies are counted, not made
#define MOST_CAPTURES 16

typedef cudaError_t Error;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t capacity = (size_t)24 << 30;
static unsigned long long launches, fails_after;
static int devices = 1, capability = 90; // 75 is 7.5
static int broken; // as after an illegal access: whatever is asked fails from then on
static __thread int current_device;
static __thread Error last_error;
static __thread enum cudaStreamCaptureMode mode_of_thread = cudaStreamCaptureModeGlobal;

__attribute__((constructor)) static void read_environment(void) {
  const char *memory = getenv("NULLGPU_MEMORY"), *count = getenv("NULLGPU_DEVICES");
  const char *after = getenv("NULLGPU_FAILS_AFTER");
  const char *number = getenv("NULLGPU_CAPABILITY");
  if (number) capability = atoi(number);
  if (memory) capacity = strtoull(memory, 0, 10);
  if (count) devices = atoi(count);
  if (after) fails_after = strtoull(after, 0, 10);
}

static Error failed(Error error) { return last_error = error; }

// Memory

typedef struct { char *start; size_t size; int on_host, device; } Block;

static Block *blocks;
static size_t block_count, block_room, used[16], peak[16];

static void keep(void *start, size_t size, int on_host) {
  if (block_count == block_room) blocks = realloc(blocks, (block_room = 2 * block_room + 64) * sizeof(Block));
  blocks[block_count++] = (Block){start, size, on_host, current_device};
}

static Block *block_of(const void *pointer) {
  for (size_t i = 0; i < block_count; i++)
    if ((char *)pointer >= blocks[i].start && (char *)pointer < blocks[i].start + blocks[i].size) return &blocks[i];
  return 0;
}

static void forget(Block *block) {
  munmap(block->start, block->size);
  *block = blocks[--block_count];
}

// Streams, captures, graphs

typedef struct { unsigned long long kernels; } Graph;
typedef struct {
  unsigned long long id;
  enum cudaStreamCaptureMode mode;
  pthread_t thread;
  Graph *graph;
  int invalid;
} Capture;
typedef struct { Capture *capture; int priority; } Stream;
typedef struct { Capture *capture; unsigned long long time; } Event;

static Stream default_stream;
static Capture *captures[MOST_CAPTURES];
static int capture_count;
static unsigned long long captures_begun, time_of_events;

static Stream *stream_of(cudaStream_t s) { return (size_t)s < 3 ? &default_stream : (Stream *)s; }

static Capture *living(Capture *capture) {
  for (int i = 0; i < capture_count; i++)
    if (captures[i] == capture) return capture;
  return 0;
}

static Capture *capture_on(cudaStream_t s) { return living(stream_of(s)->capture); }

static Error spoil(Capture *capture, Error error) {
  capture->invalid = 1;
  return failed(error);
}

// Calls that CUDA forbids while something is captured, by what the thread and the capture allow.
static Error unsafe(void) {
  if (broken) return failed(cudaErrorIllegalAddress);
  if (mode_of_thread == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  for (int i = 0; i < capture_count; i++) {
    Capture *c = captures[i];
    int own = pthread_equal(c->thread, pthread_self()) && c->mode != cudaStreamCaptureModeRelaxed;
    int anyone = mode_of_thread == cudaStreamCaptureModeGlobal && c->mode == cudaStreamCaptureModeGlobal;
    if (own || anyone) return spoil(c, cudaErrorStreamCaptureUnsupported);
  }
  return cudaSuccess;
}

static Error work(cudaStream_t s, int kernels) {
  if (fails_after && launches >= fails_after) broken = 1;
  if (broken) return failed(cudaErrorIllegalAddress);
  Capture *capture = capture_on(s);
  if (!capture) { launches += kernels; return cudaSuccess; }
  if (capture->invalid) return failed(cudaErrorStreamCaptureInvalidated);
  capture->graph->kernels += kernels;
  return cudaSuccess;
}

#define LOCKED(...)                \
  pthread_mutex_lock(&lock);       \
  Error error = cudaSuccess;       \
  __VA_ARGS__;                     \
  pthread_mutex_unlock(&lock);     \
  return error

Error cudaMalloc(void **pointer, size_t size) {
  LOCKED({
    size_t rounded = (size + GRANULE - 1) / GRANULE * GRANULE;
    error = unsafe();
    if (!error && used[current_device] + rounded > capacity) error = failed(cudaErrorMemoryAllocation);
    if (!error) {
      *pointer = mmap(0, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      keep(*pointer, rounded, 0);
      used[current_device] += rounded;
      if (used[current_device] > peak[current_device]) peak[current_device] = used[current_device];
    }
  });
}
Error cudaFree(void *pointer) {
  LOCKED({
    Block *block = block_of(pointer);
    error = block ? unsafe() : cudaSuccess;
    if (!error && block) { used[block->device] -= block->size; forget(block); }
  });
}
Error cudaHostAlloc(void **pointer, size_t size, unsigned flags) {
  LOCKED({
    size += !size;
    error = unsafe();
    if (!error) {
      *pointer = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      keep(*pointer, size, 1);
    }
  });
}
Error cudaFreeHost(void *pointer) {
  LOCKED({ Block *block = block_of(pointer); if (block) forget(block); });
}
Error cudaHostRegister(void *pointer, size_t size, unsigned flags) { return cudaSuccess; }
Error cudaHostUnregister(void *pointer) { return cudaSuccess; }
Error cudaMemGetInfo(size_t *free, size_t *total) {
  LOCKED({ *free = capacity - used[current_device]; *total = capacity; });
}
Error cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *pointer) {
  LOCKED({
    Block *block = block_of(pointer);
    memset(found, 0, sizeof *found);
    found->type = !block ? cudaMemoryTypeUnregistered : block->on_host ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    if (block) {
      found->device = block->device;
      found->devicePointer = (void *)pointer;
      found->hostPointer = block->on_host ? (void *)pointer : 0;
    }
  });
}

static void copy(void *to, const void *from, size_t size) {
  if (size && size <= COPIED) memmove(to, from, size);
}
Error cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t s) {
  LOCKED({
    error = work(s, 1);
    if (!error && !capture_on(s)) copy(to, from, size);
  });
}
Error cudaMemcpyPeerAsync(void *to, int its, const void *from, int of, size_t size, cudaStream_t s) {
  return cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, s);
}
Error cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
  LOCKED({ error = unsafe(); if (!error) copy(to, from, size); });
}
Error cudaMemcpyToSymbol(const void *to, const void *from, size_t size, size_t offset, enum cudaMemcpyKind kind) {
  return cudaSuccess;
}
Error cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t s) {
  LOCKED({
    error = work(s, 1);
    if (!error && !capture_on(s) && size <= COPIED) memset(to, value, size);
  });
}
Error cudaMemset(void *to, int value, size_t size) { return cudaMemsetAsync(to, value, size, 0); }

Error cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int priority) {
  Stream *made = calloc(1, sizeof *made);
  made->priority = priority;
  *s = (cudaStream_t)made;
  return cudaSuccess;
}
Error cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) { return cudaStreamCreateWithPriority(s, flags, 0); }
Error cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithPriority(s, 0, 0); }
Error cudaStreamDestroy(cudaStream_t s) { return cudaSuccess; }
Error cudaStreamGetPriority(cudaStream_t s, int *priority) { *priority = stream_of(s)->priority; return cudaSuccess; }

static Error wait_for(Capture *capture, Error forbidden) {
  pthread_mutex_lock(&lock);
  Error error = living(capture) ? spoil(capture, forbidden) : unsafe();
  pthread_mutex_unlock(&lock);
  return error;
}
Error cudaStreamSynchronize(cudaStream_t s) { return wait_for(stream_of(s)->capture, cudaErrorStreamCaptureUnsupported); }
Error cudaStreamQuery(cudaStream_t s) { return cudaStreamSynchronize(s); }
Error cudaDeviceSynchronize(void) {
  LOCKED({
    error = broken ? failed(cudaErrorIllegalAddress) : cudaSuccess;
    for (int i = 0; i < capture_count; i++) error = spoil(captures[i], cudaErrorStreamCaptureUnsupported);
  });
}
Error cudaStreamAddCallback(cudaStream_t s, cudaStreamCallback_t call, void *data, unsigned flags) {
  call(s, cudaSuccess, data);
  return cudaSuccess;
}
Error cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t call, void *data) { call(data); return cudaSuccess; }

Error cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *status) {
  LOCKED({
    Capture *capture = capture_on(s);
    *status = !capture ? cudaStreamCaptureStatusNone
              : capture->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
  });
}
Error cudaStreamGetCaptureInfo(cudaStream_t s, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                               cudaGraph_t *graph, const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges,
                               size_t *count) {
  cudaStreamIsCapturing(s, status);
  LOCKED({
    Capture *capture = capture_on(s);
    if (id) *id = capture ? capture->id : 0;
    if (graph) *graph = capture ? (cudaGraph_t)capture->graph : 0;
    if (nodes) *nodes = 0;
    if (edges) *edges = 0;
    if (count) *count = 0;
  });
}
Error cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) {
  LOCKED({
    if (stream_of(s) == &default_stream || capture_on(s) || capture_count == MOST_CAPTURES) {
      error = failed(cudaErrorStreamCaptureUnsupported);
    } else {
      Capture *made = calloc(1, sizeof *made);
      *made = (Capture){++captures_begun, mode, pthread_self(), calloc(1, sizeof(Graph)), 0};
      captures[capture_count++] = stream_of(s)->capture = made;
    }
  });
}
Error cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph) {
  LOCKED({
    Capture *capture = capture_on(s);
    if (!capture) {
      error = failed(cudaErrorIllegalState);
    } else {
      for (int i = 0; i < capture_count; i++)
        if (captures[i] == capture) captures[i] = captures[--capture_count];
      *graph = capture->invalid ? 0 : (cudaGraph_t)capture->graph;
      error = capture->invalid ? failed(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
      stream_of(s)->capture = 0;
    }
  });
}
Error cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
  enum cudaStreamCaptureMode before = mode_of_thread;
  mode_of_thread = *mode;
  *mode = before;
  return cudaSuccess;
}
Error cudaStreamUpdateCaptureDependencies(cudaStream_t s, cudaGraphNode_t *nodes, const cudaGraphEdgeData *edges,
                                          size_t count, unsigned flags) { return cudaSuccess; }
Error cudaGraphInstantiateWithFlags(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long flags) {
  *made = (cudaGraphExec_t)graph;
  return cudaSuccess;
}
Error cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t s) { LOCKED(error = work(s, ((Graph *)graph)->kernels)); }
Error cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
  *count = ((Graph *)graph)->kernels;
  return cudaSuccess;
}
Error cudaGraphDestroy(cudaGraph_t graph) { return cudaSuccess; }
Error cudaGraphExecDestroy(cudaGraphExec_t graph) { return cudaSuccess; }
Error cudaUserObjectCreate(cudaUserObject_t *made, void *data, cudaHostFn_t destroy, unsigned count, unsigned flags) {
  *made = (cudaUserObject_t)1;
  return cudaSuccess;
}
Error cudaUserObjectRelease(cudaUserObject_t object, unsigned count) { return cudaSuccess; }
Error cudaGraphRetainUserObject(cudaGraph_t g, cudaUserObject_t o, unsigned n, unsigned f) { return cudaSuccess; }

Error cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  *event = calloc(1, sizeof(Event));
  return cudaSuccess;
}
Error cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
Error cudaEventDestroy(cudaEvent_t event) { return cudaSuccess; }
Error cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t s, unsigned flags) {
  LOCKED({
    error = work(s, 0);
    *(Event *)event = (Event){capture_on(s), ++time_of_events};
  });
}
Error cudaEventRecord(cudaEvent_t event, cudaStream_t s) { return cudaEventRecordWithFlags(event, s, 0); }
Error cudaEventSynchronize(cudaEvent_t event) { return wait_for(((Event *)event)->capture, cudaErrorCapturedEvent); }
Error cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
Error cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
  *milliseconds = 0.01f * (float)(((Event *)to)->time - ((Event *)from)->time);
  return cudaSuccess;
}
Error cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t event, unsigned flags) {
  LOCKED({
    Capture *its = living(((Event *)event)->capture);
    Capture *ours = capture_on(s);
    if (its && !ours && stream_of(s) == &default_stream) error = spoil(its, cudaErrorStreamCaptureImplicit);
    else if (its && !ours) stream_of(s)->capture = its;
    else if (ours && !its && ((Event *)event)->time) error = spoil(ours, cudaErrorStreamCaptureIsolation);
  });
}

// Kernels

static Error launch(dim3 grid, dim3 block, cudaStream_t s) {
  size_t threads = (size_t)block.x * block.y * block.z;
  if (!grid.x || !grid.y || !grid.z || !threads || threads > 1024 || grid.y > 65535 || grid.z > 65535)
    return failed(cudaErrorInvalidConfiguration);
  LOCKED(error = work(s, 1));
}
Error cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **a, size_t shared, cudaStream_t s) {
  return launch(grid, block, s);
}
Error cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *f, void **a) {
  return launch(c->gridDim, c->blockDim, c->stream);
}
Error __cudaLaunchKernel(void *f, dim3 grid, dim3 block, void **a, size_t shared, cudaStream_t s) {
  return launch(grid, block, s);
}
static __thread struct { dim3 grid, block; size_t shared; void *stream; } pushed;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) {
  pushed.grid = grid, pushed.block = block, pushed.shared = shared, pushed.stream = stream;
  return 0;
}
Error __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *(void **)stream = pushed.stream;
  return cudaSuccess;
}
Error cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *f) {
  memset(found, 0, sizeof *found);
  found->maxThreadsPerBlock = 1024, found->numRegs = 32, found->ptxVersion = found->binaryVersion = 90;
  return cudaSuccess;
}
Error cudaFuncSetAttribute(const void *f, enum cudaFuncAttribute which, int value) { return cudaSuccess; }
Error cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int b, size_t s, unsigned flags) {
  *n = 2;
  return cudaSuccess;
}
Error cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *f, int b, size_t s) { *n = 2; return cudaSuccess; }
Error cudaGetSymbolAddress(void **pointer, const void *symbol) { *pointer = calloc(1, 1 << 16); return cudaSuccess; }
void **__cudaRegisterFatBinary(void *binary) { static void *handle; return &handle; }
void __cudaRegisterFatBinaryEnd(void **h) {}
void __cudaUnregisterFatBinary(void **h) {}
void __cudaRegisterFunction(void **h, const char *f, char *d, const char *n, int t, void *a, void *b, void *c, void *e,
                            int *w) {}
void __cudaRegisterVar(void **h, char *v, char *d, const char *n, int e, size_t s, int c, int g) {}
char __cudaInitModule(void **h) { return 1; }
Error __cudaGetKernel(cudaKernel_t *kernel, const void *f) { *kernel = (cudaKernel_t)f; return cudaSuccess; }

// The device

Error cudaGetDeviceCount(int *count) { *count = devices; return cudaSuccess; }
Error cudaGetDevice(int *device) { *device = current_device; return cudaSuccess; }
Error cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return failed(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
Error cudaDriverGetVersion(int *version) { *version = 13000; return cudaSuccess; }
Error cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
Error cudaGetLastError(void) { Error error = last_error; last_error = cudaSuccess; return error; }
Error cudaPeekAtLastError(void) { return last_error; }
const char *cudaGetErrorName(Error error) { return "cudaError"; }
const char *cudaGetErrorString(Error error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureIsolation: return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent: return "operation not permitted on an event last recorded in a capturing stream";
    default: return "an error of the null GPU";
  }
}
Error cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
  memset(found, 0, sizeof *found);
  strcpy(found->name, "Null GPU");
  found->totalGlobalMem = capacity, found->major = capability / 10, found->minor = capability % 10, found->multiProcessorCount = 132, found->warpSize = 32;
  found->maxThreadsPerBlock = 1024, found->maxThreadsPerMultiProcessor = 2048, found->regsPerBlock = 65536;
  found->regsPerMultiprocessor = 65536, found->sharedMemPerBlock = 49152, found->sharedMemPerBlockOptin = 232448;
  found->sharedMemPerMultiprocessor = 233472, found->l2CacheSize = 60 << 20, found->maxBlocksPerMultiProcessor = 32;
  found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024, found->maxThreadsDim[2] = 64;
  found->maxGridSize[0] = 2147483647, found->maxGridSize[1] = found->maxGridSize[2] = 65535;
  found->concurrentKernels = 1, found->unifiedAddressing = 1, found->totalConstMem = 65536;
  return cudaSuccess;
}
Error cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device) {
  switch (which) {
    case cudaDevAttrMaxThreadsPerBlock: case cudaDevAttrMaxBlockDimX: case cudaDevAttrMaxBlockDimY: *value = 1024; break;
    case cudaDevAttrMaxBlockDimZ: *value = 64; break;
    case cudaDevAttrMaxGridDimX: *value = 2147483647; break;
    case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: *value = 65535; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrComputeCapabilityMajor: *value = capability / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = capability % 10; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
    default: *value = 0;
  }
  return cudaSuccess;
}
Error cudaDeviceGetPCIBusId(char *text, int size, int device) { snprintf(text, size, "0000:00:00.%d", device); return cudaSuccess; }
Error cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0, *greatest = -5; return cudaSuccess; }
Error cudaDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return cudaSuccess; }
Error cudaProfilerStart(void) { return cudaSuccess; }
Error cudaProfilerStop(void) { return cudaSuccess; }
Error cudaGetDriverEntryPointByVersion(const char *name, void **pointer, unsigned version, unsigned long long flags,
                                       enum cudaDriverEntryPointQueryResult *result) {
  *pointer = 0;
  if (result) *result = cudaDriverEntryPointSymbolNotFound;
  return cudaErrorSymbolNotFound;
}

// What of the driver has an answer

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)0x10; return 0; }
int cuCtxGetCurrent(void **context) { *context = (void *)0x10; return 0; }
int cuCtxGetDevice(int *device) { *device = current_device; return 0; }

// What cuBLAS and cuSOLVER are asked for with an answer; all else of them does nothing (stubs.c, made by build.py).

int cublasCreate_v2(void **handle) { *handle = (void *)0x10; return 0; }
int cublasGetMathMode(void *handle, int *mode) { *mode = 0; return 0; }
int cublasGetPointerMode_v2(void *handle, int *mode) { *mode = 0; return 0; }
int cublasLtCreate(void **handle) { *handle = (void *)0x10; return 0; }
int cublasLtMatmulDescCreate(void **made, int compute, int scale) { *made = (void *)0x10; return 0; }
int cublasLtMatmulPreferenceCreate(void **made) { *made = (void *)0x10; return 0; }
int cublasLtMatrixLayoutCreate(void **made, int type, long rows, long columns, long lead) { *made = (void *)0x10; return 0; }
int cublasLtMatmulAlgoGetHeuristic(void *a, void *b, void *c, void *d, void *e, void *f, void *g, int n, void *r, int *found) {
  *found = 1;
  return 0;
}
int cusolverDnCreate(void **handle) { *handle = (void *)0x10; return 0; }
int cusparseCreate(void **handle) { *handle = (void *)0x10; return 0; }

// What tests ask of it

size_t nullgpu_peak(int device) { return peak[device]; }
size_t nullgpu_used(int device) { return used[device]; }
unsigned long long nullgpu_launches(void) { return launches; }
void nullgpu_reset_peak(int device) { peak[device] = used[device]; }
void nullgpu_resize(size_t bytes) { capacity = bytes; }
