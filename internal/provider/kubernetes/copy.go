package kubernetes

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gatehouse/internal/store"
)

// maxCopy bounds what is read of a copy, unpacked.
const maxCopy = 1 << 30

// fromCopy publishes what the objects were when they were last seen, once the
// API server is known not to answer.
func (l *loop) fromCopy(trouble error) {
	if trouble == nil || l.o.Copy == "" || l.copied {
		return
	}
	o, err := readCopy(l.o.Copy, l.o.Ring)
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

// copying is what is known of the copy.
type copying struct {
	spawn      func(func())
	written    chan outcome
	unsaved    bool // there is something newer than the copy
	saving     bool
	saveAt     time.Time
	copyFailed bool
}

// outcome is what came of writing the copy.
type outcome struct {
	err  error
	took time.Duration
}

// save has the copy written if that is due. Only Secrets that Ingresses name are in
// it; nobody but us may read it. No change waits for it.
func (l *loop) save() {
	if !l.unsaved || l.saving || l.o.Copy == "" || time.Now().Before(l.saveAt) {
		l.unsaved = l.unsaved && l.o.Copy != ""
		return
	}
	o, complete := l.feeds.objects()
	if !complete {
		return
	}
	o.Secrets = slices.DeleteFunc(o.Secrets, func(s *Secret) bool {
		_, named := l.last.Secrets[s.Name]
		return !named
	})
	l.unsaved, l.saving = false, true
	l.spawn(func() {
		start := time.Now()
		err := writeCopy(l.o.Copy, l.o.Ring, o)
		l.written <- outcome{err, time.Since(start)}
	})
}

func (l *loop) noteWritten(w outcome) {
	l.saving, l.saveAt = false, time.Now().Add(max(copyEvery, copyFactor*w.took))
	if w.err != nil && !l.copyFailed {
		l.o.Logger.Warn("no local copy of the cluster's objects can be kept; a start without the API server has no routes", "file", l.o.Copy, "error", w.err, "next", copyEvery)
	}
	l.copyFailed = w.err != nil
	l.unsaved = l.unsaved || w.err != nil
}

// copyVersion is of what stands in a copy.
const copyVersion = 2

// record is one line of a copy: the version comes first, then one object each.
type record struct {
	Version int      `json:",omitempty"`
	Ingress *Ingress `json:",omitempty"`
	Class   *Class   `json:",omitempty"`
	Service *Service `json:",omitempty"`
	Slice   *Slice   `json:",omitempty"`
	Secret  *Secret  `json:",omitempty"`
}

// copyName is what a sealed copy is sealed for.
const copyName = "kubernetes.json.gz"

func readCopy(file string, ring store.Ring) (o Objects, err error) {
	packed, err := os.ReadFile(file)
	if err != nil {
		return o, err
	}
	if packed, err = ring.Open(copyName, packed); err != nil {
		return o, fmt.Errorf("read %s: %w", file, err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return o, fmt.Errorf("unpack %s: %w", file, err)
	}
	d := json.NewDecoder(io.LimitReader(z, maxCopy))
	for version := 0; ; {
		var r record
		switch err := d.Decode(&r); {
		case errors.Is(err, io.EOF) && version == copyVersion:
			return o, nil
		case err != nil:
			return Objects{}, fmt.Errorf("read %s: %w", file, err)
		}
		if version == 0 && r.Version != copyVersion {
			return o, fmt.Errorf("read %s: it was written by another version", file)
		}
		version = copyVersion
		o.add(r)
	}
}

func (o *Objects) add(r record) {
	switch {
	case r.Ingress != nil:
		o.Ingresses = append(o.Ingresses, r.Ingress)
	case r.Class != nil:
		o.Classes = append(o.Classes, r.Class)
	case r.Service != nil:
		o.Services = append(o.Services, r.Service)
	case r.Slice != nil:
		o.Slices = append(o.Slices, r.Slice)
	case r.Secret != nil:
		o.Secrets = append(o.Secrets, r.Secret)
	}
}

// records are the lines of a copy.
func (o Objects) records(yield func(record) bool) {
	ok := yield(record{Version: copyVersion})
	for i := 0; ok && i < len(o.Ingresses); i++ {
		ok = yield(record{Ingress: o.Ingresses[i]})
	}
	for i := 0; ok && i < len(o.Classes); i++ {
		ok = yield(record{Class: o.Classes[i]})
	}
	for i := 0; ok && i < len(o.Services); i++ {
		ok = yield(record{Service: o.Services[i]})
	}
	for i := 0; ok && i < len(o.Slices); i++ {
		ok = yield(record{Slice: o.Slices[i]})
	}
	for i := 0; ok && i < len(o.Secrets); i++ {
		ok = yield(record{Secret: o.Secrets[i]})
	}
}

func writeCopy(file string, ring store.Ring, o Objects) error {
	packed, err := pack(o)
	if err == nil && !ring.Empty() {
		packed, err = ring.Seal(ring.IDs()[0], copyName, packed)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".kubernetes-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // after the rename there is none
	_, err = f.Write(packed)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

func pack(o Objects) ([]byte, error) {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	e := json.NewEncoder(z)
	for r := range o.records {
		if err := e.Encode(r); err != nil {
			return nil, err
		}
	}
	err = z.Close()
	return packed.Bytes(), err
}
