package http1

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFillAnswer(t *testing.T) {
	var r Response
	r.Reset()
	head := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nconnection: x-hop\r\nX-Hop: 1\r\nset-cookie: a=b\r\nSet-Cookie: c=d\r\n" +
		"X-odd_name:  v \r\nTrailer: X-Sum, Content-Length\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\n\r\n"
	if _, why := r.Parse([]byte(head), DefaultAnswerHead, Asked{}); why != 0 {
		t.Fatal(why)
	}
	h := http.Header{"Set-Cookie": {"first=1"}}
	r.Fill(h)
	want := http.Header{"Content-Length": {"3"}, "Set-Cookie": {"first=1", "a=b", "c=d"}, "X-Odd_name": {"v"}}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"X-Sum"}, r.Announced()); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
}
