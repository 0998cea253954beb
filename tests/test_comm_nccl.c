/* The NCCL communicator, a rank for each GPU there is (two ranks at least mean two GPUs): every
 * case that threads and MPI pass, on host buffers, and a sum on device buffers. */
#include "config.h"
#include "kernels/comm/comm.h"
#include "kernels/cuda/device.h"
#include "tests/comm_cases.h"
#include "tests/tap.h"

enum { GPUS = 8, COUNT = 100000 };

/* data [COUNT] i64 in device memory of this rank. */
static tmb_status on_device(tmb_comm *comm, tmb_cuda *gpu, tmb_err *err)
{
    int me = tmb_comm_rank(comm), n = tmb_comm_size(comm);
    void *device;
    int64_t *host = malloc(COUNT * sizeof *host);
    if (!host) return tmb_fail_memory(err, COUNT * sizeof *host, "numbers");
    for (int i = 0; i < COUNT; i++)
        host[i] = (int64_t)i * (me + 1);
    tmb_status status = tmb_cuda_alloc(gpu, &device, COUNT * sizeof *host, err);
    if (!status) status = tmb_cuda_upload(gpu, device, host, COUNT * sizeof *host, err);
    if (!status) status = tmb_comm_allreduce(comm, device, COUNT, TMB_SUM_I64, err);
    if (!status) status = tmb_cuda_download(gpu, host, device, COUNT * sizeof *host, err);
    for (int i = 0; !status && i < COUNT; i++)
        if (host[i] != (int64_t)i * (n * (n + 1) / 2))
            status =
                tmb_fail(err, TMB_EINTERNAL, "device buffer: rank %d of %d: number %d", me, n, i);
    free(host);
    return status;
}

static tmb_status rank_of(tmb_comm *over, void *ctx, tmb_err *err)
{
    (void)ctx;
    const tmb_comm_options options = {.timeout_s = 60, .over = over, .device = tmb_comm_rank(over)};
    tmb_comm *comm = NULL;
    tmb_cuda *gpu = NULL;
    tmb_status status = tmb_cuda_open(&gpu, options.device, err);
    if (!status) status = tmb_comm_open(&comm, "nccl", &options, err);
    if (!status) status = case_all(comm, NULL, err);
    if (!status) status = on_device(comm, gpu, err);
    if (status) tmb_comm_abort(over, err);
    tmb_comm_close(comm);
    tmb_cuda_close(gpu);
    return status;
}

int main(void)
{
    tmb_err err = {0};
    tmb_cuda *gpu[GPUS];
    int n = 0;
    while (n < GPUS && !tmb_cuda_open(&gpu[n], n, &err))
        n++;
    for (int i = 0; i < n; i++)
        tmb_cuda_close(gpu[i]);
    if (n == 0) skip_all(err.message);
    const tmb_comm_options options = {.timeout_s = 60};
    for (int ranks = 1; ranks <= n; ranks *= 2) {
        tmb_status status = tmb_comm_threads_run(ranks, &options, rank_of, NULL, &err);
        if (status == TMB_EUNAVAILABLE && strstr(err.message, "libnccl.so"))
            ok(1, "%d ranks # SKIP %s", ranks, err.message);
        else
            ok(!status, "%d ranks over NCCL: every case%s%s", ranks, status ? ": " : "",
               status ? err.message : "");
    }
    return done();
}
