// The part of Proxy-Wasm 0.2.1 that the guests here use.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

enum { CONTINUE = 0, PAUSE = 1 };
enum { REQUEST_HEADERS = 0, RESPONSE_HEADERS = 2, CALL_RESPONSE_HEADERS = 6 };
enum { REQUEST_BODY = 0, RESPONSE_BODY = 1, CALL_RESPONSE_BODY = 4, PLUGIN_CONFIGURATION = 7 };
enum { HTTP_REQUEST = 0 };
enum { INFO = 2, CRITICAL = 5 };

IMPORT(proxy_log) int proxy_log(int level, const char *text, size_t size);
IMPORT(proxy_set_effective_context) int proxy_set_effective_context(uint32_t context);
IMPORT(proxy_continue_stream) int proxy_continue_stream(int stream);
IMPORT(proxy_get_buffer_bytes)
int proxy_get_buffer_bytes(int buffer, size_t start, size_t most, char **data, size_t *size);
IMPORT(proxy_set_buffer_bytes)
int proxy_set_buffer_bytes(int buffer, size_t start, size_t length, const char *data, size_t size);
IMPORT(proxy_get_header_map_value)
int proxy_get_header_map_value(int map, const char *name, size_t name_size, char **value, size_t *size);
IMPORT(proxy_add_header_map_value)
int proxy_add_header_map_value(int map, const char *name, size_t name_size, const char *value, size_t size);
IMPORT(proxy_replace_header_map_value)
int proxy_replace_header_map_value(int map, const char *name, size_t name_size, const char *value, size_t size);
IMPORT(proxy_remove_header_map_value)
int proxy_remove_header_map_value(int map, const char *name, size_t name_size);
IMPORT(proxy_send_local_response)
int proxy_send_local_response(int status, const char *details, size_t details_size, const char *body,
                              size_t body_size, const char *headers, size_t headers_size, int grpc_status);
IMPORT(proxy_http_call)
int proxy_http_call(const char *upstream, size_t upstream_size, const char *headers, size_t headers_size,
                    const char *body, size_t body_size, const char *trailers, size_t trailers_size,
                    uint32_t milliseconds, uint32_t *call);
