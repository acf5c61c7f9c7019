// Runs kernels on the emulator of `tools/cuda-emulator`, for the replacement of CUDA's driver.
#include "emulator.h"
#include <cstring>
#include <string>

extern "C" int emulator_launch(const char* name, unsigned blocks, unsigned threads, unsigned shared,
                               const void* arguments, size_t bytes, unsigned order);

extern "C" {

void* engine_module(const char* ptx) { return new std::string(ptx); }
void engine_unload(void* module) { delete (std::string*)module; }
const void* engine_kernel(void* module, const char* name) {
    if (((std::string*)module)->find(std::string(".entry ") + name + "(") == std::string::npos) {
        return nullptr;
    }
    const emulator::Entry* entry = emulator::Entry::first;
    while (entry && strcmp(entry->name, name) != 0) {
        entry = entry->next;
    }
    return entry;
}
int engine_launch(const void* kernel, unsigned blocks, unsigned threads, unsigned shared, const void* arguments) {
    const emulator::Entry* entry = (const emulator::Entry*)kernel;
    return emulator_launch(entry->name, blocks, threads, shared, arguments, entry->bytes, 0);
}
size_t engine_argument_bytes(const void* kernel) { return ((const emulator::Entry*)kernel)->bytes; }
// The emulator does not check addresses.
void engine_allocated(unsigned long long, size_t) {}
void engine_freed(unsigned long long) {}
const char* engine_fault() { return "the emulated kernel did not run to its end"; }

} // extern "C"
