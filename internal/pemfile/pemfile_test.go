package pemfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatehouse/internal/filewatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made is a certificate and its key as PEM text.
type made struct{ chain, key string }

func make1(t *testing.T, ends time.Duration) made {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	do(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "a.test"}, DNSNames: []string{"a.test"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(ends), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	do(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	do(t, err)
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return made{text("CERTIFICATE", der), text("PRIVATE KEY", secret)}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	do(t, os.MkdirAll(filepath.Dir(path), 0o700))
	do(t, os.WriteFile(path, []byte(text), 0o600))
}

// link makes path lead to target in one step, as ln -sfn and ConfigMaps do.
func link(t *testing.T, target, path string) {
	t.Helper()
	do(t, os.Symlink(target, path+".new"))
	do(t, os.Rename(path+".new", path))
}

// reader is a user of one pair, who reads when told to.
type reader struct {
	t          *testing.T
	files      *Files
	chain, key string

	mu  sync.Mutex
	got made
	err error
	had map[string]bool // chains
}

func (r *reader) read() {
	reading := r.files.Read("test")
	defer reading.Done()
	chain, key, err := reading.Pair(r.chain, r.key)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got, r.err, r.had[chain] = made{chain, key}, err, true
}

func (r *reader) becomes(what string, want made, problem string) {
	r.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		got, err := r.got, r.err
		r.mu.Unlock()
		if got == want && (err == nil) == (problem == "") && strings.Contains(fmt.Sprint(err), problem) {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s: the wanted pair %t, problem %v, want %q", what, got == want, err, problem)
		}
	}
}

func follow(t *testing.T, o filewatch.Options, chain, key string) *reader {
	t.Helper()
	r := &reader{t: t, files: New(Options{Watches: o, Logger: slog.New(slog.DiscardHandler)}), chain: chain, key: key, had: map[string]bool{}}
	r.read()
	ended := make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(ended)
		_ = r.files.Run(ctx, r.read)
	}()
	t.Cleanup(func() { <-ended }) // the context ends before
	return r
}

// ways are how the system is asked: it tells, or everything is looked at.
func ways(t *testing.T, test func(t *testing.T, o filewatch.Options)) {
	for name, o := range map[string]filewatch.Options{"told": {}, "looked at": {Most: -1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, o)
		})
	}
}

func TestWrittenOneAfterTheOther(t *testing.T) {
	ways(t, func(t *testing.T, o filewatch.Options) {
		dir := t.TempDir()
		chain, key := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
		first, second, third := make1(t, time.Hour), make1(t, 2*time.Hour), make1(t, 3*time.Hour)
		write(t, chain, first.chain)
		write(t, key, first.key)
		r := follow(t, o, chain, key)
		r.becomes("at first", first, "")
		write(t, chain, second.chain)
		r.becomes("the chain is new, the key is old", first, "what was there before stays in use (it ends ")
		write(t, key, second.key)
		r.becomes("both are new", second, "")
		write(t, chain, second.chain[:len(second.chain)/2])
		r.becomes("half a file", second, "a.crt")
		write(t, chain, "")
		r.becomes("an empty file", second, "a.crt: it is empty")
		do(t, os.Remove(chain))
		r.becomes("none", second, "no such file")
		write(t, chain+".new", third.chain)
		write(t, key, third.key)
		do(t, os.Rename(chain+".new", chain))
		r.becomes("one is moved there", third, "")
	})
}

func TestLinksLeadElsewhere(t *testing.T) {
	ways(t, func(t *testing.T, o filewatch.Options) {
		first, second, third := make1(t, time.Hour), make1(t, 2*time.Hour), make1(t, 3*time.Hour)
		put := func(dir string, m made) {
			write(t, filepath.Join(dir, "tls.crt"), m.chain)
			write(t, filepath.Join(dir, "tls.key"), m.key)
		}
		t.Run("volume", func(t *testing.T) { // of Kubernetes: all files of a Secret change by one rename
			dir := t.TempDir()
			put(filepath.Join(dir, "..1"), first)
			link(t, "..1", filepath.Join(dir, "..data"))
			link(t, "..data/tls.crt", filepath.Join(dir, "tls.crt"))
			link(t, "..data/tls.key", filepath.Join(dir, "tls.key"))
			r := follow(t, o, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
			r.becomes("at first", first, "")
			for i, next := range []made{second, third} {
				folder := fmt.Sprintf("..%d", i+2)
				put(filepath.Join(dir, folder), next)
				link(t, folder, filepath.Join(dir, "..data"))
				do(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", i+1))))
				r.becomes("the volume is "+folder, next, "")
			}
		})
		t.Run("certbot", func(t *testing.T) { // live/ leads to numbered files in archive/, one link after the other
			dir := t.TempDir()
			live, archive := filepath.Join(dir, "live"), filepath.Join(dir, "archive")
			do(t, os.Mkdir(live, 0o700))
			renew := func(n int, m made) {
				for name, text := range map[string]string{"fullchain": m.chain, "privkey": m.key} {
					file := fmt.Sprintf("%s%d.pem", name, n)
					write(t, filepath.Join(archive, file), text)
					path := filepath.Join(live, name+".pem")
					_ = os.Remove(path) // there is none at first
					do(t, os.Symlink("../archive/"+file, path))
				}
			}
			renew(1, first)
			r := follow(t, o, filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem"))
			r.becomes("at first", first, "")
			renew(2, second)
			r.becomes("renewed", second, "")
			renew(3, third)
			r.becomes("renewed again", third, "")
		})
	})
}

// The folder comes later, as volumes and other tools' first certificates do.
func TestNotThereYet(t *testing.T) {
	ways(t, func(t *testing.T, o filewatch.Options) {
		dir := filepath.Join(t.TempDir(), "made", "later")
		r := follow(t, o, filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key"))
		r.becomes("at first", made{}, "read certificate: stat "+dir+"/a.crt: no such file")
		m := make1(t, time.Hour)
		write(t, filepath.Join(dir, "a.crt"), m.chain)
		write(t, filepath.Join(dir, "a.key"), m.key)
		r.becomes("they are there", m, "")
	})
}

func TestEnds(t *testing.T) {
	dir := t.TempDir()
	chain, key := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	put := func(m made) {
		write(t, chain, m.chain)
		write(t, key, m.key)
	}
	ended, good, other := make1(t, -time.Hour), make1(t, time.Hour), make1(t, -time.Minute)
	put(ended)
	r := follow(t, filewatch.Options{}, chain, key)
	r.becomes("an ended one is better than none", ended, "")
	put(good)
	r.becomes("it is replaced", good, "")
	put(other)
	r.becomes("an ended one replaces no good one", good, "it has ended")
}

// What is written with a pause in it is read when its writer closes it, though
// the first part would do.
func TestHalfAChainWouldDo(t *testing.T) {
	dir := t.TempDir()
	chain, key := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	m, issuer := make1(t, time.Hour), make1(t, time.Hour)
	write(t, chain, m.chain+issuer.chain)
	write(t, key, m.key)
	r := follow(t, filewatch.Options{}, chain, key)
	r.becomes("at first", made{m.chain + issuer.chain, m.key}, "")
	for try := 0; ; try++ {
		issuer = make1(t, time.Hour)
		began := time.Now()
		f, err := os.OpenFile(chain, os.O_WRONLY|os.O_TRUNC, 0o600)
		do(t, err)
		_, err = f.WriteString(m.chain)
		do(t, err)
		time.Sleep(3 * calm)
		_, err = f.WriteString(issuer.chain)
		do(t, err)
		took := time.Since(began)
		do(t, f.Close())
		r.becomes("another chain", made{m.chain + issuer.chain, m.key}, "")
		r.mu.Lock()
		half := r.had[m.chain]
		r.mu.Unlock()
		switch {
		case !half:
			return
		case took < held || try == 20: // else the writer was slower than is waited for
			t.Fatalf("half a chain was taken, %v after the first write", took)
		}
		r.mu.Lock()
		clear(r.had)
		r.mu.Unlock()
	}
}

func TestRoots(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	m := make1(t, time.Hour)
	write(t, file, m.chain)
	f := New(Options{Logger: slog.New(slog.DiscardHandler)})
	for from, want := range map[string]string{file: "", m.chain: "", file + ".none": "no such file"} {
		r := f.Read("test")
		text, err := r.Roots(from)
		if (err != nil) != (want != "") || !strings.Contains(fmt.Sprint(err), want) || err == nil && text != m.chain {
			t.Errorf("Roots(%.40q): %.40q, %v", from, text, err)
		}
		r.Done()
	}
	bad := file + ".bad"
	write(t, bad, "nothing")
	r := f.Read("test")
	if _, err := r.Roots(bad); err == nil || !strings.Contains(err.Error(), "no PEM certificate is in it") {
		t.Errorf("a file without certificates: %v", err)
	}
	r.Done()
	f.Read("test").Done()
	if len(f.items) != 0 {
		t.Errorf("%d files are kept that nobody uses", len(f.items))
	}
}
