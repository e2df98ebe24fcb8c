"""Sockets that speak HTTP/1.1, and only as its client: the host makes the requests, and its egress policy judges them.

What is written to a connected socket is read as an HTTP request; reading from it starts the request with the host and
gives the response back as the bytes of an HTTP/1.1 response that ends with its connection. So `http.client`,
`urllib.request` and whatever builds on either work as they are, TLS included (`ssl.py` beside this marks the socket; the
host does the rest). Everything else that sockets can do is an `OSError` that says so.
"""

import json
import time

import _wisp

error = OSError
timeout = TimeoutError


class herror(OSError):
    pass


class gaierror(OSError):
    pass


has_ipv6 = False
AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3
SOL_SOCKET, SOL_TCP, SOL_IP = 1, 6, 0
SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_LINGER = 2, 3, 4, 6, 7, 8, 9, 13
IPPROTO_IP, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6 = 0, 1, 6, 17, 41
IPV6_V6ONLY = 26
TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT = 1, 4, 5, 6
SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2
MSG_OOB, MSG_PEEK, MSG_DONTWAIT = 1, 2, 64
AI_PASSIVE, AI_CANONNAME, AI_NUMERICHOST, AI_NUMERICSERV, AI_ADDRCONFIG = 1, 2, 4, 1024, 32
NI_NUMERICHOST, NI_NUMERICSERV = 1, 2
EAI_FAMILY, EAI_NONAME, EAI_SERVICE = -6, -2, -8
INADDR_ANY, INADDR_LOOPBACK = 0, 0x7F000001
SOMAXCONN = 128

_default_timeout = None
# Bytes of one read from the host.
_CHUNK_BYTES = 64 << 10
_HEAD_BYTES_MAX = 64 << 10
# Headers that are about the connection, which is the host's.
_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}


def getdefaulttimeout():
    return _default_timeout


def setdefaulttimeout(value):
    global _default_timeout
    _default_timeout = value


def gethostname():
    return "action"


def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    """The name stands for its addresses: the host resolves it, once, when it asks its policy."""
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("idna")
    if isinstance(port, str):
        port = {"http": 80, "https": 443}.get(port) or int(port)
    return [(AF_INET, SOCK_STREAM, IPPROTO_TCP, "", (host or "localhost", port or 0))]


def gethostbyname(name):
    return name


def gethostbyname_ex(name):
    return name, [], [name]


def gethostbyaddr(address):
    raise herror(1, "addresses have no names here")


def getnameinfo(address, flags):
    return str(address[0]), str(address[1])


def getservbyname(name, proto="tcp"):
    try:
        return {"http": 80, "https": 443}[name]
    except KeyError:
        raise OSError("service/proto not found") from None


def inet_aton(text):
    import ipaddress

    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        raise OSError("illegal IP address string passed to inet_aton") from None


def inet_ntoa(packed):
    return ".".join(str(byte) for byte in packed)


def inet_pton(family, text):
    import ipaddress

    kind = ipaddress.IPv4Address if family == AF_INET else ipaddress.IPv6Address
    try:
        return kind(text).packed
    except ValueError:
        raise OSError("illegal IP address string passed to inet_pton") from None


def inet_ntop(family, packed):
    import ipaddress

    return str((ipaddress.IPv4Address if family == AF_INET else ipaddress.IPv6Address)(bytes(packed)))


def htons(number):
    return (number & 0xFF) << 8 | number >> 8


def htonl(number):
    return int.from_bytes(number.to_bytes(4, "little"), "big")


ntohs, ntohl = htons, htonl


def close(fd):
    raise OSError(9, "Bad file descriptor")


def _unsupported(what):
    return OSError(f"{what} is not available to actions: sockets here are clients of HTTP and HTTPS and nothing else")


def _dechunk(body):
    """The bytes of a body that was written in chunks; None while its end is missing."""
    out, at = bytearray(), 0
    while True:
        line_end = body.find(b"\r\n", at)
        if line_end < 0:
            return None
        size = int(bytes(body[at:line_end]).split(b";")[0], 16)
        at = line_end + 2
        if size == 0:
            return bytes(out) if body.find(b"\r\n", at) >= 0 else None
        if len(body) < at + size + 2:
            return None
        out += body[at : at + size]
        at += size + 2


class _Request:
    """One HTTP/1.1 request, read from the bytes a client wrote. Raises when they are none."""

    def __init__(self, written, head_end):
        lines = bytes(written[:head_end]).decode("latin-1").split("\r\n")
        try:
            self.method, self.target, version = lines[0].split(" ")
        except ValueError:
            version = ""
        if not version.startswith("HTTP/1."):
            raise _unsupported("a protocol other than HTTP/1.1")
        self.headers = [tuple(part.strip(" \t") for part in line.split(":", 1)) for line in lines[1:] if ":" in line]
        lower = {name.lower(): value for name, value in self.headers}
        if self.method == "CONNECT":
            raise _unsupported("a proxy")
        self.host = lower.get("host")
        self.body_at = head_end + 4
        self.chunked = lower.get("transfer-encoding", "").lower() == "chunked"
        self.length = int(lower.get("content-length") or 0)

    def body(self, written):
        """The body, once all of it was written."""
        if not self.chunked:
            end = self.body_at + self.length
            return bytes(written[self.body_at : end]) if len(written) >= end else None
        if not written.endswith(b"\r\n\r\n"):
            return None
        return _dechunk(bytes(written[self.body_at :]))

    def head(self, scheme, address):
        host, port = address
        target = self.target
        if not target.startswith("/"):  # absolute form, as to a proxy
            _, _, rest = target.partition("://")
            target = "/" + rest.partition("/")[2]
        name = f"[{host}]" if ":" in host else host
        authority = name if port == {"http": 80, "https": 443}[scheme] else f"{name}:{port}"
        headers = [[name, value] for name, value in self.headers if name.lower() not in _HOP and name.lower() != "host"]
        if self.host and self.host.lower() not in (authority.lower(), f"{name}:{port}".lower()):
            headers.append(["Host", self.host])
        return json.dumps({"method": self.method, "url": f"{scheme}://{authority}{target}", "headers": headers})


class _Exchange:
    """A request under way with the host."""

    def __init__(self, head, body, seconds):
        self.until = None if seconds is None else time.monotonic() + seconds
        self.seconds = seconds
        self.run = _wisp.run_number()
        self.handle = _wisp.http_start(head, body)
        if self.handle < 0:
            raise OSError("the request was refused: too many are open, or its head is not valid")
        self.pending = self._head()

    def _wait(self):
        left_ms = -1
        if self.until is not None:
            left_ms = int((self.until - time.monotonic()) * 1000)
            if left_ms <= 0:
                self.close()
                raise TimeoutError("timed out")
        woken = _wisp.http_poll(left_ms)
        if woken >= 0 and woken != self.handle:
            time.sleep(0.001)  # another one's news; it keeps them until it reads

    def _head(self):
        while (text := _wisp.http_head(self.handle)) is None:
            self._wait()
        head = json.loads(text)
        if "error" in head:
            self.close()
            raise ConnectionError(head["error"])
        import http

        try:
            reason = http.HTTPStatus(head["status"]).phrase
        except ValueError:
            reason = "Unknown"
        lines = [f"HTTP/1.1 {head['status']} {reason}"]
        lines += [f"{name}: {value}" for name, value in head["headers"] if name.lower() not in _HOP - {"content-length"}]
        lines += ["Connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace")

    def read(self, count):
        if self.pending:
            data, self.pending = self.pending[:count], self.pending[count:]
            return data
        if self.handle is None:
            return b""
        if self.run != _wisp.run_number():
            self.handle = None
            raise ConnectionResetError("the response belongs to an activation that has ended")
        if self.seconds is not None:
            self.until = time.monotonic() + self.seconds
        while True:
            data = _wisp.http_read(self.handle, min(count, _CHUNK_BYTES))
            if data is None:
                self._wait()
                continue
            if isinstance(data, int):
                text = _wisp.http_head(self.handle) or "{}"
                self.close()
                raise ConnectionResetError(json.loads(text).get("error", "the response was cut off"))
            if not data:
                self.close()
            return data

    def close(self):
        if self.handle is not None and self.handle >= 0 and self.run == _wisp.run_number():
            _wisp.http_drop(self.handle)
        self.handle = None


class socket:
    """The base of `socket.socket`."""

    __slots__ = ("__dict__",)

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        self._kind = (
            AF_INET if family == -1 else int(family),
            SOCK_STREAM if type == -1 else int(type),
            0 if proto == -1 else int(proto),
        )
        if self._kind[0] not in (AF_INET, AF_INET6) or self._kind[1] & 0xF != SOCK_STREAM:
            raise _unsupported("this kind of socket")
        self._timeout = _default_timeout
        self._address = None
        self._scheme = "http"
        self._written = bytearray()
        self._request = None
        self._exchange = None
        self._shut = False

    family = property(lambda self: self._kind[0])
    type = property(lambda self: self._kind[1])
    proto = property(lambda self: self._kind[2])
    timeout = property(lambda self: self._timeout)

    def settimeout(self, value):
        self._timeout = None if value is None else float(value)

    def gettimeout(self):
        return self._timeout

    def setblocking(self, flag):
        self._timeout = None if flag else 0.0

    def getblocking(self):
        return self._timeout != 0.0

    def setsockopt(self, *args):
        pass

    def getsockopt(self, *args):
        return 0

    def fileno(self):
        return -1 if self._shut else 1 << 20

    def connect(self, address):
        self._address = (address[0], int(address[1]))

    def connect_ex(self, address):
        self.connect(address)
        return 0

    def getpeername(self):
        if self._address is None:
            raise OSError(107, "Transport endpoint is not connected")
        return self._address

    def getsockname(self):
        return ("0.0.0.0", 0)

    def send(self, data, flags=0):
        if self._address is None:
            raise OSError(107, "Transport endpoint is not connected")
        if self._exchange is not None:  # a second request on one connection, which ended with the first
            raise BrokenPipeError(32, "Broken pipe")
        view = memoryview(data).cast("B")
        self._written += view
        self._start()
        return len(view)

    def sendall(self, data, flags=0):
        self.send(data, flags)

    def _start(self):
        """Hands the request to the host when the last of it was written.

        Waits for the response's head, so that what forbids or prevents the request is an error of sending it, as an
        error of connecting would be.
        """
        written = self._written
        if self._request is None:
            head_end = written.find(b"\r\n\r\n")
            if head_end >= 0:
                self._request = _Request(written, head_end)
            elif len(written) > _HEAD_BYTES_MAX or b"\n" in written[:64] and b" HTTP/1." not in written[:_HEAD_BYTES_MAX]:
                raise _unsupported("a protocol other than HTTP/1.1")
            else:
                return
        body = self._request.body(written)
        if body is not None:
            head = self._request.head(self._scheme, self._address)
            self._exchange = _Exchange(head, body, self._timeout)
            written.clear()

    def recv(self, count, flags=0):
        if self._exchange is None:
            if not self._written:
                raise _unsupported("a protocol in which the server speaks first")
            if self._request is None:
                raise _unsupported("a protocol other than HTTP/1.1")
            raise OSError("the request was not written to its end before its response was read")
        return self._exchange.read(count)

    def recv_into(self, buffer, count=0, flags=0):
        view = memoryview(buffer).cast("B")
        data = self.recv(min(count, len(view)) if count else len(view))
        view[: len(data)] = data
        return len(data)

    def shutdown(self, how):
        pass

    def close(self):
        self._shut = True
        if self._exchange is not None:
            self._exchange.close()

    def detach(self):
        self._shut = True
        return -1

    def bind(self, address):
        raise _unsupported("bind")

    def listen(self, backlog=0):
        raise _unsupported("listen")

    def _accept(self):
        raise _unsupported("accept")

    def sendto(self, *args):
        raise _unsupported("sendto")

    def recvfrom(self, *args):
        raise _unsupported("recvfrom")

    # What a socket inside TLS is asked for (see ssl.py).

    def _secure(self, server_hostname):
        self._scheme = "https"
        self.server_hostname = server_hostname
        if self._address is not None and server_hostname:
            self._address = (server_hostname, self._address[1])

    def do_handshake(self, block=False):
        pass

    def getpeercert(self, binary_form=False):
        name = self._address[0] if self._address else ""
        return b"" if binary_form else {"subject": ((("commonName", name),),), "subjectAltName": (("DNS", name),)}

    def version(self):
        return "TLSv1.3"

    def cipher(self):
        return ("TLS_AES_128_GCM_SHA256", "TLSv1.3", 128)

    def selected_alpn_protocol(self):
        return "http/1.1"

    def selected_npn_protocol(self):
        return None

    def pending(self):
        return 0

    def unwrap(self):
        return self


SocketType = socket
