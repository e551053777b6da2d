package wire

import (
	"strings"
	"testing"
)

func TestParseHead(t *testing.T) {
	text := "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 1024\r\nConnection: close\r\n\r\nbody"
	h, n := ParseHead([]byte(text))
	if h.Status() != 200 || h.Length != 1024 || !h.Close || h.Chunked || n != len(text)-4 {
		t.Errorf("size %d, status %d, %+v", n, h.Status(), h)
	}
	for cut := range n {
		if _, size := ParseHead([]byte(text[:cut])); size != 0 {
			t.Errorf("a head of %d bytes taken for whole at %d", size, cut)
		}
	}
	h, _ = ParseHead([]byte("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nsec-websocket-key: abc\r\nTransfer-Encoding: chunked\r\n\r\n"))
	if !h.Upgrade || string(h.Key) != "abc" || !h.Chunked || h.Length != -1 || h.Status() != 0 {
		t.Errorf("request: %+v", h)
	}
	if h, _ := ParseHead([]byte(strings.Repeat("x", 12) + "\r\n\r\n")); h.Status() != 0 {
		t.Errorf("a status of no status line: %d", h.Status())
	}
}
