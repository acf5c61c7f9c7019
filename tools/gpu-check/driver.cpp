// A replacement for CUDA's driver on machines without one. It has only the functions that the library, `gpu-check` and
// `examples/device_batching.rs` call. Device memory is host memory, and a stream executes everything immediately. So
// the library launches kernels exactly as on a device. An engine runs the kernels: `engine.cpp` runs the compiled
// sources, and `tools/ptx-emulator` interprets the PTX. A graph is a list of launches.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" {
void* engine_module(const char* ptx);
void engine_unload(void* module);
const void* engine_kernel(void* module, const char* name);
int engine_launch(const void* kernel, unsigned blocks, unsigned threads, unsigned shared, const void* arguments);
size_t engine_argument_bytes(const void* kernel);
void engine_allocated(unsigned long long address, size_t bytes);
void engine_freed(unsigned long long address);
const char* engine_fault();
}

namespace {

enum Status {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_PTX = 218,
    NOT_FOUND = 500,
    LAUNCH_FAILED = 719,
    CAPTURE_UNSUPPORTED = 900,
};

typedef std::chrono::steady_clock Clock;
typedef unsigned long long Address;

void* memory(Address address) { return (void*)address; }

size_t allocated = 0;

Status allocate(Address* to, size_t bytes) {
    allocated += bytes;
    *to = (Address)aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*to) {
        return OUT_OF_MEMORY;
    }
    engine_allocated(*to, bytes);
    return SUCCESS;
}

void* current = nullptr;

struct Launch {
    const void* kernel;
    unsigned blocks, threads, shared;
    std::vector<char> arguments;

    Status run() const {
        return engine_launch(kernel, blocks, threads, shared, arguments.data()) ? LAUNCH_FAILED : SUCCESS;
    }
};

typedef std::vector<Launch> Graph;

// The graph that records the launches of the captured stream; null if no stream is captured.
Graph* recording = nullptr;
void* captured_stream = nullptr;

bool is_captured(void* stream) { return recording && stream == captured_stream; }

// Runs an operation on memory, or returns an error if its stream is captured. The library captures only launches.
template <class F>
Status unless_captured(void* stream, F operation) {
    if (is_captured(stream)) {
        return CAPTURE_UNSUPPORTED;
    }
    operation();
    return SUCCESS;
}

} // namespace

extern "C" {

Status cuInit(unsigned) { return SUCCESS; }
Status cuDriverGetVersion(int* version) {
    *version = 13000;
    return SUCCESS;
}
Status cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_VALUE;
}
Status cuDeviceGetName(char* name, int length, int) {
    strncpy(name, "Emulated", length);
    return SUCCESS;
}
Status cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = 1 << 30;
    return SUCCESS;
}
Status cuDeviceGetAttribute(int* value, int attribute, int) {
    const int major = 75, shared_of_block = 97, shared_of_processor = 81;
    const int minor = 76;
    *value = attribute == major                 ? 8
             : attribute == minor               ? 0
             : attribute == shared_of_block     ? 163 << 10
             : attribute == shared_of_processor ? 164 << 10
                                                : 1;
    return SUCCESS;
}
Status cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &current;
    return SUCCESS;
}
Status cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Status cuDeviceGetDefaultMemPool(void** pool, int) {
    *pool = &current;
    return SUCCESS;
}
Status cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
Status cuCtxGetCurrent(void** context) {
    *context = current;
    return SUCCESS;
}
Status cuCtxSetCurrent(void* context) {
    current = context;
    return SUCCESS;
}
Status cuCtxSynchronize() { return SUCCESS; }
Status cuStreamSynchronize(void* stream) {
    return unless_captured(stream, [] {});
}
Status cuStreamCreate(void** stream, unsigned) {
    *stream = new char;
    return SUCCESS;
}
Status cuStreamDestroy_v2(void* stream) {
    delete (char*)stream;
    return SUCCESS;
}

Status cuStreamIsCapturing(void* stream, int* status) {
    *status = is_captured(stream);
    return SUCCESS;
}
// Only one stream at a time can be captured. The default stream cannot be captured.
Status cuStreamBeginCapture_v2(void* stream, int) {
    if (!stream || recording) {
        return CAPTURE_UNSUPPORTED;
    }
    recording = new Graph;
    captured_stream = stream;
    return SUCCESS;
}
Status cuStreamEndCapture(void* stream, Graph** graph) {
    if (!is_captured(stream)) {
        return INVALID_VALUE;
    }
    *graph = recording;
    recording = nullptr;
    return SUCCESS;
}
Status cuGraphInstantiateWithFlags(Graph** executable, const Graph* graph, unsigned long long) {
    *executable = new Graph(*graph);
    return SUCCESS;
}
Status cuGraphLaunch(const Graph* executable, void*) {
    for (const Launch& launch : *executable) {
        if (const Status status = launch.run()) {
            return status;
        }
    }
    return SUCCESS;
}
Status cuGraphExecDestroy(Graph* executable) {
    delete executable;
    return SUCCESS;
}
Status cuGraphDestroy(Graph* graph) {
    delete graph;
    return SUCCESS;
}
// Freed memory still counts as used, so that a test sees every allocation.
Status cuMemGetInfo_v2(size_t* free, size_t* total) {
    *total = (size_t)1 << 48;
    *free = *total - allocated;
    return SUCCESS;
}

Status cuMemAlloc_v2(Address* to, size_t bytes) { return allocate(to, bytes); }
Status cuMemAllocAsync(Address* to, size_t bytes, void* stream) {
    return is_captured(stream) ? CAPTURE_UNSUPPORTED : allocate(to, bytes);
}
Status cuMemFree_v2(Address address) {
    engine_freed(address);
    free(memory(address));
    return SUCCESS;
}
Status cuMemFreeAsync(Address address, void* stream) {
    return is_captured(stream) ? CAPTURE_UNSUPPORTED : cuMemFree_v2(address);
}
Status cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void* stream) {
    return unless_captured(stream, [&] { memset(memory(to), value, bytes); });
}
Status cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
    return unless_captured(stream, [&] { memcpy(memory(to), from, bytes); });
}
Status cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
    return unless_captured(stream, [&] { memcpy(to, memory(from), bytes); });
}
Status cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream) {
    return unless_captured(stream, [&] { memcpy(memory(to), memory(from), bytes); });
}

Status cuEventCreate(void** event, unsigned) {
    *event = new Clock::time_point;
    return SUCCESS;
}
Status cuEventDestroy_v2(void* event) {
    delete (Clock::time_point*)event;
    return SUCCESS;
}
Status cuEventRecord(void* event, void*) {
    *(Clock::time_point*)event = Clock::now();
    return SUCCESS;
}
Status cuEventSynchronize(void*) { return SUCCESS; }
Status cuEventElapsedTime_v2(float* ms, void* from, void* to) {
    *ms = std::chrono::duration<float, std::milli>(*(Clock::time_point*)to - *(Clock::time_point*)from).count();
    return SUCCESS;
}

Status cuModuleLoadData(void** module, const void* ptx) {
    *module = engine_module((const char*)ptx);
    return *module ? SUCCESS : INVALID_PTX;
}
Status cuModuleUnload(void* module) {
    engine_unload(module);
    return SUCCESS;
}
Status cuModuleGetFunction(const void** function, void* module, const char* name) {
    *function = engine_kernel(module, name);
    return *function ? SUCCESS : NOT_FOUND;
}
Status cuLaunchKernel(const void* function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned,
                      unsigned shared, void* stream, void** arguments, void**) {
    const char* bytes = (const char*)arguments[0];
    Launch launch = {function, blocks, threads, shared, {bytes, bytes + engine_argument_bytes(function)}};
    if (!is_captured(stream)) {
        return launch.run();
    }
    recording->push_back(launch);
    return SUCCESS;
}
// Kernels have no variables in shared memory, and a multiprocessor runs two blocks at a time.
Status cuFuncGetAttribute(int* value, int, const void*) {
    *value = 0;
    return SUCCESS;
}
Status cuFuncSetAttribute(const void*, int, int) { return SUCCESS; }
Status cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
    *blocks = 2;
    return SUCCESS;
}

Status cuGetErrorName(int, const char** text) {
    *text = "CUDA_ERROR_EMULATED";
    return SUCCESS;
}
Status cuGetErrorString(int status, const char** text) {
    const bool of_kernel = status == INVALID_PTX || status == NOT_FOUND || status == LAUNCH_FAILED;
    *text = of_kernel ? engine_fault() : "the emulated driver refused the call";
    return SUCCESS;
}

} // extern "C"
