/* driver.c - the six driver calls that describe a GPU (CUDA Driver API: Initialization, Device
 * Management). */
#include "config.h"
#include "kernels/cuda/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* CUdevice_attribute: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR. */
enum { CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76, NAME_BYTES = 96 };

typedef struct driver {
    int (*init)(unsigned);
    int (*count)(int *);
    int (*get)(int *, int);
    int (*name)(char *, int, int);
    int (*memory)(size_t *, int);
    int (*attribute)(int *, int, int);
} driver;

/* POSIX gives a function as a void *; copying its bytes says so without a cast C forbids. */
static int symbol(void *library, const char *name, void *function)
{
    void *at = dlsym(library, name);
    memcpy(function, &at, sizeof at);
    return at != NULL;
}

static int load(driver *d, void *library)
{
    return symbol(library, "cuInit", &d->init) && symbol(library, "cuDeviceGetCount", &d->count) &&
           symbol(library, "cuDeviceGet", &d->get) &&
           symbol(library, "cuDeviceGetName", &d->name) &&
           symbol(library, "cuDeviceTotalMem_v2", &d->memory) &&
           symbol(library, "cuDeviceGetAttribute", &d->attribute);
}

static int describe(const driver *d, int i, tmb_gpu *g)
{
    int device;
    size_t bytes;
    if (d->get(&device, i) || d->name(g->name, NAME_BYTES, device) || d->memory(&bytes, device) ||
        d->attribute(&g->major, CAPABILITY_MAJOR, device) ||
        d->attribute(&g->minor, CAPABILITY_MINOR, device))
        return 0;
    g->bytes = bytes;
    return 1;
}

int tmb_gpus_find(tmb_gpu *gpus, int max, char *why, size_t size)
{
    int count = 0, n = 0, code;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    driver d;
    snprintf(why, size, "the NVIDIA driver's libcuda.so.1 is not there");
    if (!library) return 0;
    if (!load(&d, library)) {
        snprintf(why, size, "libcuda.so.1 lacks functions: a driver older than CUDA 4");
    } else if ((code = d.init(0)) || (code = d.count(&count))) {
        snprintf(why, size, "the NVIDIA driver answers with CUDA error %d", code);
    } else {
        snprintf(why, size, "the NVIDIA driver sees no device");
        for (int i = 0; i < count && n < max; i++)
            n += describe(&d, i, &gpus[n]);
    }
    dlclose(library);
    return n;
}
