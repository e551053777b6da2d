// Package pemfile keeps what the PEM files say that configuration names:
// certificates with their keys, and authorities. It reads a file again when it
// has changed, and keeps what it said last for as long as it is damaged, or
// does not fit its other half. It knows neither configuration nor TLS servers:
// what the texts are for is its callers' business.
package pemfile

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/filewatch"
)

// maxFile bounds what is read of one file.
const maxFile = 1 << 20

// IsText tells PEM text from a path.
func IsText(value string) bool { return strings.Contains(value, "-----BEGIN ") }

// Options of Files.
type Options struct {
	// Watches is how the system is asked for changes.
	Watches filewatch.Options
	Logger  *slog.Logger
}

// Files are the PEM files in use. The methods may be called from any goroutine.
type Files struct {
	o Options

	mu    sync.Mutex
	items map[item]*content
	used  map[string]map[item]bool // by user, at its last reading
	wake  context.CancelFunc       // other files are in use; nil: nobody waits for that
}

// item is a certificate and its key, or authorities: then key is "".
type item struct{ chain, key string }

func (i item) paths() []string {
	return slices.DeleteFunc([]string{i.chain, i.key}, func(v string) bool { return v == "" || IsText(v) })
}

// content is what an item's files say.
type content struct {
	chain, key string // the last that was good; "": none was
	ends       time.Time
	err        error                  // why what is there now is refused
	infos      map[string]os.FileInfo // by path, as it was before it was read
	read       time.Time
}

// New makes Files; none is in use yet.
func New(o Options) *Files {
	return &Files{o: o, items: map[item]*content{}, used: map[string]map[item]bool{}}
}

// Reading is one user's look at all files it uses, by one goroutine.
type Reading struct {
	files *Files
	user  string
	items map[item]bool
}

// Read begins a reading. End it with Done: what the user asked for until then is
// what it uses, until its next reading.
func (f *Files) Read(user string) *Reading { return &Reading{f, user, map[item]bool{}} }

// Pair gives a certificate chain and its key as PEM text; each is a path, or PEM
// text already. With an error they are the last that were good, or empty if none
// was; it names the paths and says what is served.
func (r *Reading) Pair(chain, key string) (chainText, keyText string, err error) {
	if IsText(chain) && IsText(key) {
		return chain, key, nil
	}
	return r.ask(item{chain, key})
}

// Roots gives the certificates of authorities as PEM text, as Pair does.
func (r *Reading) Roots(from string) (text string, err error) {
	if IsText(from) {
		return from, nil
	}
	text, _, err = r.ask(item{chain: from})
	return text, err
}

func (r *Reading) ask(i item) (chain, key string, err error) {
	f := r.files
	f.mu.Lock()
	defer f.mu.Unlock()
	r.items[i] = true
	c := f.items[i]
	if c == nil {
		c = &content{}
		c.load(i)
		f.items[i] = c
	}
	return c.chain, c.key, c.problem()
}

// problem is why the files are not in use as they are, and what is instead.
func (c *content) problem() error {
	switch {
	case c.err == nil || c.chain == "":
		return c.err
	case c.ends.IsZero():
		return fmt.Errorf("%w; what was there before stays in use until the file is whole again", c.err)
	}
	return fmt.Errorf("%w; what was there before stays in use (it ends %s) until one of the files changes again", c.err, c.ends.UTC().Format(time.RFC3339))
}

// Done ends a reading: files that nobody uses any more are forgotten.
func (r *Reading) Done() {
	f := r.files
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.items)
	for i := range r.items {
		if !f.used[r.user][i] {
			before = -1
		}
	}
	f.used[r.user] = r.items
	for i := range f.items {
		if !f.inUse(i) {
			delete(f.items, i)
		}
	}
	if len(f.items) != before && f.wake != nil {
		f.wake()
	}
}

func (f *Files) inUse(i item) bool {
	for _, items := range f.used {
		if items[i] {
			return true
		}
	}
	return false
}

// load reads an item's files and says whether that changes anything.
func (c *content) load(i item) (changed bool) {
	c.read, c.infos = time.Now(), map[string]os.FileInfo{}
	chain, key, ends, err := c.parse(i)
	if err == nil && c.ends.After(c.read) && !ends.After(c.read) {
		err = fmt.Errorf("read certificate %s: it has ended, %s", name(i.chain), ends.UTC().Format(time.RFC3339))
	}
	if err != nil {
		changed = c.err == nil || c.err.Error() != err.Error()
		c.err = err
		return changed
	}
	changed = c.err != nil || chain != c.chain || key != c.key
	c.chain, c.key, c.ends, c.err = chain, key, ends, nil
	return changed
}

func (c *content) parse(i item) (chain, key string, ends time.Time, err error) {
	if chain, err = c.text("certificate", i.chain); err != nil {
		return "", "", time.Time{}, err
	}
	if i.key == "" {
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(chain)) {
			err = fmt.Errorf("read certificates of %s: no PEM certificate is in it", name(i.chain))
		}
		return chain, "", time.Time{}, err
	}
	if key, err = c.text("key", i.key); err != nil {
		return "", "", time.Time{}, err
	}
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		return "", "", time.Time{}, fmt.Errorf("load certificate %s with key %s: %w", name(i.chain), name(i.key), err)
	}
	return chain, key, pair.Leaf.NotAfter, nil
}

func name(value string) string {
	if IsText(value) {
		return "(PEM text)"
	}
	return value
}

// text reads a path; it notes what the file is like before, so that a write
// under way shows at the next look.
func (c *content) text(what, value string) (string, error) {
	if IsText(value) {
		return value, nil
	}
	info, err := os.Stat(value)
	if err == nil && !info.Mode().IsRegular() { // to open a pipe would take until somebody writes to it
		err = fmt.Errorf("%s is no regular file", value)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", what, err)
	}
	c.infos[value] = info
	f, err := os.Open(value)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", what, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read %s %s: %w", what, value, err)
	case len(text) > maxFile:
		return "", fmt.Errorf("read %s %s: over %d bytes", what, value, maxFile)
	case len(bytes.TrimSpace(text)) == 0:
		return "", fmt.Errorf("read %s %s: it is empty", what, value)
	}
	return string(text), nil
}

// same says whether the files are those that were read. One that was changed
// just before it was read may have changed again without its time showing it.
func (c *content) same(i item) bool {
	if c.err != nil {
		return false
	}
	for _, path := range i.paths() {
		now, err := os.Stat(path)
		if err != nil || !unchanged(c.infos[path], now) || c.read.Sub(now.ModTime()) < fresh {
			return false
		}
	}
	return true
}

// unchanged says whether a file looks as it did before; nil: it was not there.
func unchanged(before, now os.FileInfo) bool {
	return before != nil && os.SameFile(before, now) && before.Size() == now.Size() && before.ModTime().Equal(now.ModTime())
}
