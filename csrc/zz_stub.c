#include "abi.h"
#define W __attribute__((weak))
W int aoe_remote_open(aoe_remote **r, aoe_core *c, const aoe_core_settings *s, const aoe_remote_port *p) { (void)r;(void)c;(void)s;(void)p; return -38; }
W void aoe_remote_close(aoe_remote *r) {(void)r;}
W int aoe_remote_fd(aoe_remote *r) {(void)r;return -1;}
W void aoe_remote_pump(aoe_remote *r) {(void)r;}
W void aoe_remote_send(aoe_remote *r) {(void)r;}
W void aoe_remote_wait(aoe_remote *r, int t, uint32_t s) {(void)r;(void)t;(void)s;}
W int64_t aoe_remote_now(void) {return 0;}
W void aoe_remote_lost(const aoe_remote *r, uint64_t *u, uint64_t *f) {(void)r;(void)u;(void)f;}
W void aoe_remote_mac(const aoe_remote *r, uint32_t p, uint8_t *m) {(void)r;(void)p;(void)m;}
W int aoe_remote_load(aoe_remote *r, aoe_load *l, int64_t f, int m) {(void)r;(void)l;(void)f;(void)m;return 0;}
