/* Whether a second server has the same disk as the owner: aoe/initiator/proof.py has the rules. */
#include <stdlib.h>

#include "core.h"

void proof_init(struct proof *f)
{
    samples_init(f);
    f->news = UINT64_MAX;
}

void proof_close(struct proof *f)
{
    samples_close(f);
    free(f->echo.data);
}

void proof_stand_still(struct proof *f, int64_t gap_ns)
{
    samples_stand_still(f, gap_ns);
    f->echo.since_ns += gap_ns;
}

void proof_step(aoe_core *c, int64_t now_ns)
{
    struct proof *f = &c->proof;
    echo_step(c, now_ns);
    samples_step(c, now_ns);
    f->news = c->news;
    f->wanted = echo_is_wanted(c);
    f->works = f->echo.piece || f->subject;
}

void proof_became(aoe_core *c, struct look *l, const struct event *e, int64_t now_ns)
{
    l->operation->look = NULL;
    l->operation = NULL;
    if (l->sample)
        samples_became(c, l, e, now_ns);
    else
        echo_became(c, e, now_ns);
}
