package upstream_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/upstream"
)

func TestUpgrade(t *testing.T) {
	url, _ := raw(t, func(c net.Conn, head *http.Request) {
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", head.Header.Get("Upgrade"))
		io.Copy(c, c)
	})
	r, _ := newRegistry(t, upstream.Options{})
	set := build(t, r, one(balanced(srv("a", url))), 1)
	f := front(t, set, "s@file", nil)
	c, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" {
		t.Fatal(res, err)
	}
	for _, word := range []string{"one\n", "two\n"} {
		io.WriteString(c, word)
		if got, err := br.ReadString('\n'); got != word {
			t.Fatal(got, err)
		}
	}
	if n := set.View()[0].Servers[0].InFlight; n != 1 {
		t.Error("in flight:", n)
	}
	c.Close()
	for end := time.Now().Add(5 * time.Second); set.View()[0].Servers[0].InFlight != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still in flight after the tunnel's end")
		}
	}
}

func TestEventsAreNotHeldBack(t *testing.T) {
	next := make(chan string)
	o := origin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for word := range next {
			io.WriteString(w, word)
			w.(http.Flusher).Flush()
		}
	})
	r, _ := newRegistry(t, upstream.Options{})
	f := front(t, build(t, r, one(balanced(srv("a", o.URL))), 0), "s@file", nil)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	go func() { next <- "data: 0\n" }()
	res, err := (&http.Client{Transport: tr}).Get(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	br := bufio.NewReader(res.Body)
	for i := range 3 {
		if got, err := br.ReadString('\n'); got != fmt.Sprintf("data: %d\n", i) {
			t.Fatal(got, err)
		}
		if i < 2 {
			next <- fmt.Sprintf("data: %d\n", i+1)
		}
	}
	close(next)
}

// grpcLike answers as a gRPC server does: trailers, announced and not.
func grpcLike(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "Grpc-Status")
	w.Header().Set("Content-Type", "application/grpc")
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s te=%s got=%s", r.Proto, r.Header.Get("Te"), body)
	w.(http.Flusher).Flush()
	w.Header().Set("Grpc-Status", "0")
	w.Header().Set(http.TrailerPrefix+"Late", "yes")
}

func TestTrailersOverH2C(t *testing.T) {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	o := httptest.NewUnstartedServer(http.HandlerFunc(grpcLike))
	o.Config.Protocols = p
	o.Start()
	t.Cleanup(o.Close)
	r, _ := newRegistry(t, upstream.Options{})
	set := build(t, r, one(balanced(srv("a", strings.Replace(o.URL, "http:", "h2c:", 1)))), 0)
	service, _ := set.Service("s@file")
	f := httptest.NewUnstartedServer(service.Handler(nil))
	f.Config.Protocols = p
	f.Start()
	t.Cleanup(f.Close)
	tr := &http.Transport{Protocols: p}
	defer tr.CloseIdleConnections()
	req, _ := http.NewRequest("POST", f.URL, strings.NewReader("hello"))
	req.Header.Set("Te", "trailers")
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(body) != "HTTP/2.0 te=trailers got=hello" || res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("Late") != "yes" {
		t.Error(string(body), err, res.Trailer)
	}
	if n := set.View()[0].Servers[0]; n.URL[:4] != "h2c:" || n.InFlight != 0 {
		t.Errorf("%+v", n)
	}
}

// clientPair makes a client's certificate, as PEM.
func clientPair(t *testing.T) config.KeyPair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "us"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return config.KeyPair{
		CertFile: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		KeyFile:  config.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
	}
}

func TestTLSToServers(t *testing.T) {
	o := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName)
		if len(r.TLS.PeerCertificates) > 0 {
			fmt.Fprint(w, " from ", r.TLS.PeerCertificates[0].Subject.CommonName)
		}
	}))
	o.EnableHTTP2 = true
	o.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	o.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the point
	o.StartTLS()
	t.Cleanup(o.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.Certificate().Raw}))
	pair := []config.KeyPair{clientPair(t)}
	r, logged := newRegistry(t, upstream.Options{})
	for name, tc := range map[string]struct {
		with config.ServersTransport
		want string
	}{
		"unknown":  {config.ServersTransport{}, "502 Bad Gateway\n"},
		"roots":    {config.ServersTransport{RootCAs: []string{ca}}, "HTTP/2.0 "},
		"name":     {config.ServersTransport{RootCAs: []string{ca}, ServerName: "example.com"}, "HTTP/2.0 example.com"},
		"wrong":    {config.ServersTransport{RootCAs: []string{ca}, ServerName: "other.org"}, "502 Bad Gateway\n"},
		"insecure": {config.ServersTransport{InsecureSkipVerify: true}, "HTTP/2.0 "},
		"1.1":      {config.ServersTransport{RootCAs: []string{ca}, DisableHTTP2: true}, "HTTP/1.1 "},
		"client":   {config.ServersTransport{RootCAs: []string{ca}, Certificates: pair}, "HTTP/2.0  from us"},
		"client, 1.1": {config.ServersTransport{RootCAs: []string{ca}, Certificates: pair, DisableHTTP2: true},
			"HTTP/1.1  from us"},
	} {
		lb := balanced(srv("a", o.URL))
		lb.ServersTransport = tc.with
		if _, body := get(t, front(t, build(t, r, one(lb), 0), "s@file", nil).URL); body != tc.want {
			t.Errorf("%s: %q", name, body)
		}
	}
	if !strings.Contains(logged.String(), "certificate") {
		t.Error(logged)
	}
}

func TestExpectContinue(t *testing.T) {
	o := origin(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	r, _ := newRegistry(t, upstream.Options{})
	f := front(t, build(t, r, one(balanced(srv("a", o.URL))), 0), "s@file", nil)
	req, _ := http.NewRequest("POST", f.URL, io.MultiReader(strings.NewReader("body")))
	req.Header.Set("Expect", "100-continue")
	if res, body := do(t, req); res.StatusCode != 200 || body != "body" {
		t.Error(res.Status, body)
	}
}
