package entrypoint

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets this program play the client of TestIdleCosts.
func TestMain(m *testing.M) {
	if address := os.Getenv("ENTRYPOINT_IDLE"); address != "" {
		if err := holdIdle(address, os.Getenv("ENTRYPOINT_PROTO")); err != nil {
			println(err.Error())
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// start serves on a port of loopback until the test ends.
func start(t testing.TB, opts Options) *Server {
	t.Helper()
	if opts.Name == "" {
		opts.Name = "web"
	}
	opts.Address = "127.0.0.1:0"
	s, err := Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

// exchange sends bytes on a connection of its own and gives all that comes
// back until the server closes or stays silent.
func exchange(t testing.TB, s *Server, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(3 * time.Second))
	answer, _ := io.ReadAll(c)
	return string(answer)
}

// status gives the three digits of an answer.
func status(answer string) string {
	if f := strings.Fields(answer); len(f) > 1 {
		return f[1]
	}
	return "none"
}

// echo answers with the request it sees, in the order of HTTP/1.1.
func echo() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := bufio.NewWriter(w)
		defer b.Flush()
		io.WriteString(b, r.Method+" "+r.URL.RequestURI()+" "+r.Host+"\n")
		r.Header.Write(b)
	})
}

// selfSigned makes a certificate for localhost, and its PEM texts.
func selfSigned(t testing.TB, kind string) (pair tls.Certificate, certPEM, keyPEM string) {
	t.Helper()
	var key any
	var public any
	switch kind {
	case "rsa":
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		key, public = k, &k.PublicKey
	default:
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, public = k, &k.PublicKey
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: kind}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	pair, err = LoadCertificate(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair, certPEM, keyPEM
}

// testTLS is our default configuration with a certificate.
func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	pair, _, _ := selfSigned(t, "ecdsa")
	c, problems := TLSConfig(TLSOptions{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

// h2Client speaks HTTP/2 only.
func h2Client(t testing.TB) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP2(true)
	tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}
