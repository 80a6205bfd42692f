/* Loaded before wrk: a connection that is opened again knows nothing of its last session, as a visitor who comes for the
   first time. wrk keeps the session in its SSL object, SSL_clear() leaves it there, and a server that gives tickets would
   be measured with resumed handshakes. */
#define _GNU_SOURCE
#include <dlfcn.h>

int SSL_clear(void *ssl) {
    int (*clear)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "SSL_clear");
    int (*set_session)(void *, void *) = (int (*)(void *, void *))dlsym(RTLD_NEXT, "SSL_set_session");
    int cleared = clear(ssl);
    set_session(ssl, 0);
    return cleared;
}
