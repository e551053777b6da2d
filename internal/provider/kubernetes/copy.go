package kubernetes

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxCopy bounds what is read of a copy, unpacked.
const maxCopy = 1 << 30

// fromCopy publishes what the objects were when they were last seen, once the
// API server is known not to answer.
func (l *loop) fromCopy(trouble error) {
	if trouble == nil || l.o.Copy == "" || l.copied {
		return
	}
	o, err := readCopy(l.o.Copy)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !l.copyFailed {
			l.o.Logger.Warn("the local copy of the cluster's objects is no help", "file", l.o.Copy, "error", err, "next", "the API server is asked until it answers")
		}
		l.copyFailed = true
		return
	}
	result := l.translator.Translate(o, l.o.Settings)
	l.publish(result.Routing, result.Problems())
	l.began, l.copied, l.last = true, true, result
	l.o.Logger.Warn("the API server does not answer; routes are those of the local copy", "error", trouble,
		"routers", len(result.Routing.Routers), "next", "the API server is asked until it answers")
}

func readCopy(file string) (o Objects, err error) {
	f, err := os.Open(file)
	if err != nil {
		return o, err
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return o, fmt.Errorf("unpack %s: %w", file, err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxCopy))
	if err != nil {
		return o, fmt.Errorf("unpack %s: %w", file, err)
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return o, fmt.Errorf("read %s: %w", file, err)
	}
	return o, nil
}

// save writes the copy. Only Secrets that Ingresses name are in it; nobody but
// us may read it.
func (l *loop) save() {
	o := *l.unsaved
	o.Unread = nil
	o.Secrets = nil
	for _, s := range l.unsaved.Secrets {
		if _, named := l.last.Secrets[nameOf(s)]; named {
			o.Secrets = append(o.Secrets, s)
		}
	}
	l.unsaved, l.saved = nil, time.Now()
	if err := writeCopy(l.o.Copy, o); err != nil && !l.copyFailed {
		l.copyFailed = true
		l.o.Logger.Warn("no local copy of the cluster's objects can be kept; a start without the API server has no routes", "file", l.o.Copy, "error", err, "next", copyEvery)
	} else if err == nil {
		l.copyFailed = false
	}
}

func writeCopy(file string, o Objects) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".kubernetes-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // after the rename there is none
	z, _ := gzip.NewWriterLevel(f, gzip.BestSpeed)
	err = errors.Join(json.NewEncoder(z).Encode(o), z.Close(), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
