package entrypoint

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
)

// said is a connection whose other side has sent all it ever will.
type said struct {
	net.Conn
	from *bytes.Reader
}

func (s said) Read(p []byte) (int, error)  { return s.from.Read(p) }
func (s said) Write(p []byte) (int, error) { return len(p), nil }
func (s said) Close() error                { return nil }

// heard is the first message as crypto/tls reads it; nil: it does not.
func heard(record []byte) (hello *tls.ClientHelloInfo) {
	stop := errors.New("that was all")
	server := tls.Server(said{from: bytes.NewReader(record)}, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		hello = h
		return nil, stop
	}})
	server.Handshake() //nolint:errcheck // it stops
	return hello
}

func TestServerName(t *testing.T) {
	for _, c := range []struct {
		client *tls.Config
		ok     bool
		name   string
	}{
		{&tls.Config{ServerName: "a.example.com"}, true, "a.example.com"},
		{&tls.Config{ServerName: "A.Example.com", NextProtos: []string{"h2", "http/1.1"}}, true, "A.Example.com"},
		{&tls.Config{ServerName: "a.example.com", MaxVersion: tls.VersionTLS12}, true, "a.example.com"},
		{&tls.Config{ServerName: "127.0.0.1"}, true, ""},
		{&tls.Config{ServerName: "a.example.com", NextProtos: []string{"acme-tls/1"}}, false, ""},
		{&tls.Config{ServerName: "a.example.com", NextProtos: []string{"h2", "acme-tls/1"}}, false, ""},
	} {
		record := recorded(t, c.client)
		if name, ok := serverName(record); name != c.name || ok != c.ok {
			t.Errorf("%+q %q: %q, %t", c.client.ServerName, c.client.NextProtos, name, ok)
		}
		for i := range record {
			if _, ok := serverName(record[:i]); ok {
				t.Fatalf("%d of %d bytes are enough", i, len(record))
			}
		}
	}
	if _, ok := serverName([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); ok {
		t.Error("plain HTTP has a server name")
	}
}

// FuzzServerName: what is read is what crypto/tls reads.
func FuzzServerName(f *testing.F) {
	for _, client := range []*tls.Config{{ServerName: "a.example.com"}, {ServerName: "127.0.0.1"},
		{ServerName: "b.test", NextProtos: []string{"h2", "acme-tls/1"}, CurvePreferences: []tls.CurveID{tls.X25519}}} {
		f.Add(recorded(f, client))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		name, ok := serverName(record)
		if hello := heard(record); ok && hello != nil && hello.ServerName != name {
			t.Errorf("%q, crypto/tls reads %q", name, hello.ServerName)
		}
	})
}

// recorded is the first message of a handshake.
func recorded(t testing.TB, config *tls.Config) []byte {
	client, server := net.Pipe()
	defer client.Close()
	config.InsecureSkipVerify = true
	go tls.Client(client, config).Handshake() //nolint:errcheck // it is cut off
	hello := make([]byte, 5)
	_, err := io.ReadFull(server, hello)
	if err == nil {
		hello = append(hello, make([]byte, int(hello[3])<<8|int(hello[4]))...)
		_, err = io.ReadFull(server, hello[5:])
	}
	if err != nil {
		t.Fatal(err)
	}
	return hello
}
