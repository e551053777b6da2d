package http1

import (
	"net/http"
	"testing"
)

const browserHead = "GET /articles/2026/11/edge-routers?utm_source=feed&page=2 HTTP/1.1\r\n" +
	"Host: www.example.com\r\n" +
	"Connection: keep-alive\r\n" +
	"sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"\r\n" +
	"sec-ch-ua-mobile: ?0\r\n" +
	"sec-ch-ua-platform: \"Linux\"\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n" +
	"Sec-Fetch-Site: same-origin\r\n" +
	"Sec-Fetch-Mode: navigate\r\n" +
	"Sec-Fetch-User: ?1\r\n" +
	"Sec-Fetch-Dest: document\r\n" +
	"Referer: https://www.example.com/\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n\r\n"

const loadHead = "GET /one HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n"

func BenchmarkParseRequest(b *testing.B) {
	for name, head := range map[string]string{"browser": browserHead, "load": loadHead} {
		b.Run(name, func(b *testing.B) {
			buf, rules, req := []byte(head), DefaultRules(), new(Request)
			b.SetBytes(int64(len(head)))
			b.ReportAllocs()
			for b.Loop() {
				req.Reset()
				if n, why := req.Parse(buf, &rules); n != len(head) {
					b.Fatal(n, why)
				}
			}
		})
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	for name, head := range map[string]string{"browser": browserHead, "load": loadHead} {
		b.Run(name, func(b *testing.B) {
			req, _, _ := parse(b, head)
			client := NewClient("192.0.2.17", false, true)
			onward := Onward{Client: &client}
			out := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				out = AppendEnd(AppendRequest(out[:0], req, &onward))
			}
		})
	}
}

func BenchmarkAppendRequestTrusted(b *testing.B) {
	req, _, _ := parse(b, browserHead[:len(browserHead)-2]+"X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\nX-Real-Ip: 198.51.100.1\r\n\r\n")
	client := NewClient("192.0.2.17", true, false)
	onward := Onward{Client: &client}
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		out = AppendEnd(AppendRequest(out[:0], req, &onward))
	}
}

const answerHead = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n" +
	"Content-Length: 1024\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nConnection: keep-alive\r\nETag: \"6a1b2c3d-400\"\r\n" +
	"Cache-Control: max-age=60\r\nAccept-Ranges: bytes\r\n\r\n"

func BenchmarkParseResponse(b *testing.B) {
	buf, res := []byte(answerHead), new(Response)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		res.Reset()
		if n, why := res.Parse(buf, DefaultAnswerHead, Asked{}); n != len(buf) {
			b.Fatal(n, why)
		}
	}
}

func BenchmarkAppendResponse(b *testing.B) {
	res, _, _ := parseAnswer(answerHead, Asked{}, 0)
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		out = AppendEnd(AppendResponse(out[:0], res, Reply{Minor: 1}))
	}
}

func BenchmarkChunks(b *testing.B) {
	for name, size := range map[string]int{"16": 16, "1K": 1 << 10, "32K": 32 << 10} {
		b.Run(name, func(b *testing.B) {
			var wire []byte
			for range 64 {
				wire = AppendChunk(wire, make([]byte, size))
			}
			wire = AppendLastChunk(wire, nil)
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				body, at := newBody(Chunked, 0), 0
				for !body.Done() {
					skip, payload, why := body.Next(wire[at:])
					if at += skip + payload; why != 0 {
						b.Fatal(why)
					}
				}
			}
		})
	}
}

func BenchmarkNormalPath(b *testing.B) {
	for name, path := range map[string]string{"normal": "/articles/2026/11/edge-routers", "escaped": "/a%20b/%C3%A9", "unnormal": "/a/./b/../%7ec//d"} {
		b.Run(name, func(b *testing.B) {
			in, room := []byte(path), make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				if _, why := AppendNormalPath(room, in, false); why != 0 {
					b.Fatal(why)
				}
			}
		})
	}
}

func BenchmarkFill(b *testing.B) {
	req, _, _ := parse(b, browserHead)
	client := NewClient("192.0.2.17", false, true)
	onward := Onward{Client: &client}
	var out http.Request
	b.ReportAllocs()
	for b.Loop() {
		req.Fill(&out, &onward)
	}
}

func BenchmarkAppendHTTPRequest(b *testing.B) {
	req, _, _ := parse(b, browserHead)
	client := NewClient("192.0.2.17", false, true)
	var out http.Request
	req.Fill(&out, &Onward{Client: &client})
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, why := AppendHTTPRequest(buf, &out, ""); why != 0 {
			b.Fatal(why)
		}
	}
}

// TestPlainPathDoesNotAllocate: from the client's bytes to the origin's and
// back.
func TestPlainPathDoesNotAllocate(t *testing.T) {
	plain, believed := NewClient("192.0.2.17", false, true), NewClient("192.0.2.17", true, true)
	heads := map[string][]byte{
		"browser": []byte(browserHead), "load": []byte(loadHead),
		"unnormal path": []byte(get("/a/../b%7e//c?x", "Connection: close, X-A\r\nX-A: 1\r\nX_B: 2\r\nTE: trailers\r\n")),
		"forwarded":     []byte(get("/", "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\nX-Real-Ip: 198.51.100.1\r\nForwarded: for=x\r\n")),
		"body":          []byte(post("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n")),
	}
	answer, chunks := []byte(answerHead), []byte("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
	req, res, trailers, rules, out := new(Request), new(Response), new(Trailers), DefaultRules(), make([]byte, 0, 8192)
	for name, head := range heads {
		for _, client := range []*Client{&plain, &believed} {
			onward := Onward{Client: client}
			n := testing.AllocsPerRun(100, func() {
				req.Reset()
				res.Reset()
				trailers.Reset()
				req.Parse(head, &rules)
				out = AppendEnd(AppendRequest(out[:0], req, &onward))
				res.Parse(answer, DefaultAnswerHead, Asked{})
				out = AppendEnd(AppendResponse(out[:0], res, Reply{Minor: 1}))
				body := newBody(Chunked, 0)
				body.Next(chunks)
				body.Next(chunks[8:])
				trailers.Parse(chunks[13:])
				out = AppendLastChunk(out[:0], trailers)
				out = BadHost.AppendRefusal(out[:0], nil, false)
			})
			if n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
			if len(req.Path()) == 0 || res.Status() != 200 || trailers.Len() != 1 {
				t.Errorf("%s: the work was not done: %s %d %d", name, req.Path(), res.Status(), trailers.Len())
			}
		}
	}
}
