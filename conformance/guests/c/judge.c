// A filter in C without any SDK: it edits headers, rewrites bodies, and asks a service before a request may go on. The
// guests in Go and AssemblyScript do the same.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "proxy_wasm.h"

#define TEXT(literal) (literal), sizeof(literal) - 1
#define CALLS 64

static char *upstream;
static size_t upstream_size;

// Which exchange made which call; calls are numbered from 0 upward by some hosts.
static struct {
    uint32_t call, context;
    int used;
} calls[CALLS];

EXPORT(proxy_abi_version_0_2_1) void proxy_abi_version_0_2_1(void) {}

EXPORT(proxy_on_memory_allocate) void *proxy_on_memory_allocate(size_t size) { return malloc(size); }

EXPORT(proxy_on_configure) int proxy_on_configure(uint32_t root, size_t size) {
    (void)root;
    if (proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, &upstream, &upstream_size) != 0 || upstream_size == 0) {
        proxy_log(CRITICAL, TEXT("the configuration has to name an upstream"));
        return 0;
    }
    return 1;
}

// Appends a header to a serialized map whose count, sizes and contents are written side by side by `head`.
struct map {
    uint32_t count;
    uint32_t sizes[16];
    char text[512];
    size_t used;
};

static void put(struct map *map, const char *name, const char *value, size_t size) {
    size_t name_size = strlen(name);
    if (map->count == 8 || map->used + name_size + size + 2 > sizeof map->text) return;
    map->sizes[2 * map->count] = name_size;
    map->sizes[2 * map->count + 1] = size;
    map->count++;
    memcpy(map->text + map->used, name, name_size + 1);
    map->used += name_size + 1;
    memcpy(map->text + map->used, value, size);
    map->used += size;
    map->text[map->used++] = 0;
}

static size_t serialized(const struct map *map, char *out) {
    size_t sizes = 8 * map->count;
    memcpy(out, &map->count, 4);
    memcpy(out + 4, map->sizes, sizes);
    memcpy(out + 4 + sizes, map->text, map->used);
    return 4 + sizes + map->used;
}

static void reply(int status, const char *body, const char *verdict, size_t verdict_size) {
    struct map headers = {0};
    char bytes[sizeof headers];
    if (verdict != NULL) put(&headers, "x-judge", verdict, verdict_size);
    proxy_send_local_response(status, NULL, 0, body, strlen(body), bytes, serialized(&headers, bytes), -1);
}

EXPORT(proxy_on_request_headers) int proxy_on_request_headers(uint32_t context, uint32_t count, int end) {
    (void)count, (void)end;
    proxy_replace_header_map_value(REQUEST_HEADERS, TEXT("x-guest"), TEXT("c"));
    proxy_remove_header_map_value(REQUEST_HEADERS, TEXT("content-length"));
    char *who;
    size_t size;
    if (proxy_get_header_map_value(REQUEST_HEADERS, TEXT("x-ask"), &who, &size) != 0) return CONTINUE;
    struct map head = {0};
    char bytes[sizeof head];
    put(&head, ":method", TEXT("GET"));
    put(&head, ":path", TEXT("/judge"));
    put(&head, ":authority", TEXT("judge"));
    put(&head, "x-who", who, size);
    free(who);
    for (size_t at = 0; at < CALLS; at++) {
        if (calls[at].used) continue;
        calls[at].context = context;
        calls[at].used = proxy_http_call(upstream, upstream_size, bytes, serialized(&head, bytes), NULL, 0, NULL, 0,
                                         5000, &calls[at].call) == 0;
        if (calls[at].used) return PAUSE;
        break;
    }
    reply(500, "no call", NULL, 0);
    return PAUSE;
}

EXPORT(proxy_on_http_call_response)
void proxy_on_http_call_response(uint32_t root, uint32_t call, uint32_t headers, size_t size, uint32_t trailers) {
    (void)root, (void)trailers;
    size_t at = 0;
    while (at < CALLS && !(calls[at].used && calls[at].call == call)) at++;
    if (at == CALLS) return;
    calls[at].used = 0;
    if (proxy_set_effective_context(calls[at].context) != 0) return;
    if (headers == 0) {
        reply(503, "nobody answered", NULL, 0);
        return;
    }
    char *status, *verdict;
    size_t status_size, verdict_size;
    if (proxy_get_header_map_value(CALL_RESPONSE_HEADERS, TEXT(":status"), &status, &status_size) != 0) return;
    if (status_size != 3 || memcmp(status, "200", 3) != 0) {
        reply(403, "refused", status, status_size);
    } else if (proxy_get_buffer_bytes(CALL_RESPONSE_BODY, 0, size, &verdict, &verdict_size) == 0) {
        proxy_add_header_map_value(REQUEST_HEADERS, TEXT("x-verdict"), verdict, verdict_size);
        proxy_continue_stream(HTTP_REQUEST);
        free(verdict);
    }
    free(status);
}

EXPORT(proxy_on_request_body) int proxy_on_request_body(uint32_t context, size_t size, int end) {
    (void)context;
    if (!end) return PAUSE;
    char *body;
    if (size == 0 || proxy_get_buffer_bytes(REQUEST_BODY, 0, size, &body, &size) != 0) return CONTINUE;
    for (size_t at = 0; at < size; at++) body[at] = toupper((unsigned char)body[at]);
    proxy_set_buffer_bytes(REQUEST_BODY, 0, size, body, size);
    free(body);
    return CONTINUE;
}

EXPORT(proxy_on_response_headers) int proxy_on_response_headers(uint32_t context, uint32_t count, int end) {
    (void)context, (void)count, (void)end;
    proxy_add_header_map_value(RESPONSE_HEADERS, TEXT("x-by"), TEXT("c"));
    proxy_remove_header_map_value(RESPONSE_HEADERS, TEXT("content-length"));
    return CONTINUE;
}

EXPORT(proxy_on_response_body) int proxy_on_response_body(uint32_t context, size_t size, int end) {
    (void)context;
    if (end) proxy_set_buffer_bytes(RESPONSE_BODY, size, 0, TEXT("\n-- c"));
    return CONTINUE;
}
