// A filter in AssemblyScript on proxy-runtime: it edits headers, rewrites bodies, and asks the upstream `judge` before a
// request may go on. The guests in Go and C do the same.
export * from "@solo-io/proxy-runtime/proxy";
import {
  Context, FilterDataStatusValues, FilterHeadersStatusValues, GrpcStatusValues, HeaderPair, Headers,
  RootContext, WasmResultValues, continue_request, registerRootContext, send_local_response, stream_context,
} from "@solo-io/proxy-runtime";

// The SDK has a name for these that no host knows, or keeps them to itself.
// @ts-ignore: decorator
@external("env", "proxy_set_buffer_bytes")
declare function setBytes(buffer: u32, start: u32, length: u32, data: usize, size: u32): u32;
// @ts-ignore: decorator
@external("env", "proxy_get_buffer_bytes")
declare function getBytes(buffer: u32, start: u32, length: u32, data: usize, size: usize): u32;

const REQUEST_BODY: u32 = 0;
const RESPONSE_BODY: u32 = 1;
const CALL_BODY: u32 = 4;

class Root extends RootContext {
  createContext(id: u32): Context {
    return new Exchange(id, this);
  }

  // The SDK's own asks for its configuration with a wrong pointer.
  onConfigure(size: u32): bool {
    return true;
  }
}

function pair(name: string, value: string): HeaderPair {
  return new HeaderPair(String.UTF8.encode(name), String.UTF8.encode(value));
}

function reply(status: u32, body: string, headers: Headers): void {
  send_local_response(status, "", String.UTF8.encode(body), headers, GrpcStatusValues.Ok);
}

function read(buffer: u32, size: u32): ArrayBuffer {
  const out = new ArrayBuffer(8);
  const at = changetype<usize>(out);
  if (size == 0 || getBytes(buffer, 0, size, at, at + 4) != 0) {
    return new ArrayBuffer(0);
  }
  const length = load<u32>(at, 4);
  const bytes = new ArrayBuffer(length);
  memory.copy(changetype<usize>(bytes), load<u32>(at), length);
  return bytes;
}

class Exchange extends Context {
  onRequestHeaders(count: u32, end: bool): FilterHeadersStatusValues {
    const headers = stream_context.headers.request;
    headers.replace("x-guest", "assemblyscript");
    headers.remove("content-length");
    const who = headers.get("x-ask");
    if (who == "") {
      return FilterHeadersStatusValues.Continue;
    }
    const head: Headers = [
      pair(":method", "GET"), pair(":path", "/judge"), pair(":authority", "judge"), pair("x-who", who),
    ];
    const nothing = new ArrayBuffer(0);
    const asked = this.root_context.httpCall("judge", head, nothing, [], 5000, this, answered);
    if (asked != WasmResultValues.Ok) {
      reply(500, "no call", []);
    }
    return FilterHeadersStatusValues.StopIteration;
  }

  onRequestBody(size: usize, end: bool): FilterDataStatusValues {
    if (!end) {
      return FilterDataStatusValues.StopIterationAndBuffer;
    }
    const body = String.UTF8.encode(String.UTF8.decode(read(REQUEST_BODY, size as u32)).toUpperCase());
    if (body.byteLength > 0) {
      setBytes(REQUEST_BODY, 0, size as u32, changetype<usize>(body), body.byteLength);
    }
    return FilterDataStatusValues.Continue;
  }

  onResponseHeaders(count: u32, end: bool): FilterHeadersStatusValues {
    stream_context.headers.response.add("x-by", "assemblyscript");
    stream_context.headers.response.remove("content-length");
    return FilterHeadersStatusValues.Continue;
  }

  onResponseBody(size: usize, end: bool): FilterDataStatusValues {
    if (end) {
      const mark = String.UTF8.encode("\n-- assemblyscript");
      setBytes(RESPONSE_BODY, size as u32, 0, changetype<usize>(mark), mark.byteLength);
    }
    return FilterDataStatusValues.Continue;
  }
}

function answered(origin: Context, headers: u32, size: usize, trailers: u32): void {
  if (headers == 0) {
    reply(503, "nobody answered", []);
    return;
  }
  const status = stream_context.headers.http_callback.get(":status");
  if (status != "200") {
    reply(403, "refused", [pair("x-judge", status)]);
    return;
  }
  const verdict = String.UTF8.decode(read(CALL_BODY, size as u32));
  stream_context.headers.request.add("x-verdict", verdict);
  continue_request();
}

registerRootContext((id: u32) => new Root(id), "");
