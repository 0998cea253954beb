/* uses_library.c - a program that uses the installed libtombac; make installcheck builds and runs
 * it.  It counts the routed experts' Linears of a checkpoint. */
#include <moe/model/model.h>

#include <stdio.h>

int main(int argc, char **argv)
{
    tmb_err err = {0};
    tmb_checkpoint *ckpt = NULL;
    tmb_model *model = NULL;
    tmb_status status = TMB_EUSAGE;
    if (argc == 2) status = tmb_checkpoint_open(&ckpt, argv[1], &err);
    if (!status) status = tmb_model_open(&model, ckpt, &err);
    if (status) {
        fprintf(stderr, "%s\n", err.message);
        return (int)status;
    }
    unsigned experts = 0;
    for (uint32_t i = 0; i < model->n_units; i++)
        experts += model->units[i].role == TMB_ROLE_EXPERT;
    printf("%s: %u routed experts of %u units\n", ckpt->path, experts, model->n_units);
    tmb_model_close(model);
    tmb_checkpoint_close(ckpt);
    return 0;
}
