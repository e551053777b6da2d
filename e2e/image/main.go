// Command image writes an OCI image of gatehouse, for each architecture, into
// one tar file, without a container engine: the static binary, Mozilla's root
// certificates, a folder /tmp and nothing else. The same sources give the same
// bytes.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who runs in the container, by number: there is no /etc/passwd.
const user = "65532:65532"

func main() {
	out := flag.String("o", "bin/gatehouse-image.tar", "file to write")
	name := flag.String("name", "gatehouse:latest", "name of the image")
	archs := flag.String("arch", "amd64,arm64", "architectures")
	tried := flag.Bool("try", false, "have a registry take it, and run it for each architecture; needs e2e/tools/emulator")
	flag.Parse()
	list := strings.Split(*archs, ",")
	err := write(*out, *name, list)
	if err == nil && *tried {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		err = try(ctx, *out, list)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Println(*out)
}

// descriptor points at a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

// image collects the blobs of the file, by digest.
type image map[string][]byte

func (b image) add(mediaType string, blob []byte) descriptor {
	sum := sha256.Sum256(blob)
	digest := hex.EncodeToString(sum[:])
	b[digest] = blob
	return descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: len(blob)}
}

func (b image) addJSON(mediaType string, value any) (descriptor, error) {
	text, err := json.Marshal(value)
	return b.add(mediaType, text), err
}

const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

func write(out, name string, archs []string) error {
	blobs := image{}
	var manifests []descriptor
	for _, arch := range archs {
		d, err := one(blobs, arch)
		if err != nil {
			return fmt.Errorf("make the image for %s: %w", arch, err)
		}
		manifests = append(manifests, d)
	}
	index, err := blobs.addJSON(mediaIndex, map[string]any{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": manifests})
	if err != nil {
		return err
	}
	_, tag, _ := strings.Cut(name, ":")
	index.Annotations = map[string]string{"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name}
	top, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": []descriptor{index}})
	if err != nil {
		return err
	}
	files := []file{
		{name: "oci-layout", mode: 0o644, content: []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {name: "index.json", mode: 0o644, content: top},
		{name: "blobs/", mode: 0o755}, {name: "blobs/sha256/", mode: 0o755},
	}
	for digest, blob := range blobs {
		files = append(files, file{name: "blobs/sha256/" + digest, mode: 0o644, content: blob})
	}
	text, err := archive(files)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o644)
}

// one makes the manifest of one architecture.
func one(blobs image, arch string) (descriptor, error) {
	binary, version, err := build(arch)
	if err != nil {
		return descriptor{}, err
	}
	layer, err := archive([]file{
		{name: "gatehouse", mode: 0o755, content: binary},
		{name: "etc/", mode: 0o755}, {name: "etc/ssl/", mode: 0o755}, {name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: roots()},
		{name: "tmp/", mode: 0o1777},
	})
	if err != nil {
		return descriptor{}, err
	}
	plain := sha256.Sum256(layer)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(layer); err != nil {
		return descriptor{}, err
	}
	if err := w.Close(); err != nil {
		return descriptor{}, err
	}
	layerAt := blobs.add(mediaLayer, packed.Bytes())
	labels := map[string]string{"org.opencontainers.image.title": "gatehouse", "org.opencontainers.image.version": version}
	config, err := blobs.addJSON(mediaConfig, map[string]any{
		"architecture": arch, "os": "linux", "created": time.Unix(0, 0).UTC(),
		"config": map[string]any{
			"User": user, "Entrypoint": []string{"/gatehouse"}, "WorkingDir": "/", "Labels": labels,
			"ExposedPorts": map[string]any{"80/tcp": struct{}{}, "443/tcp": struct{}{}, "443/udp": struct{}{}, "8080/tcp": struct{}{}},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(plain[:])}},
		"history": []any{map[string]any{"created": time.Unix(0, 0).UTC(), "created_by": "make image"}},
	})
	if err != nil {
		return descriptor{}, err
	}
	d, err := blobs.addJSON(mediaManifest, map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest, "config": config, "layers": []descriptor{layerAt}, "annotations": labels,
	})
	d.Platform = &platform{"linux", arch}
	return d, err
}

// build builds the binary, and says of which version it is.
func build(arch string) (binary []byte, version string, err error) {
	dir, err := os.MkdirTemp("", "gatehouse-image")
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	version = "unknown"
	if out, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		version = strings.TrimSpace(string(out))
	}
	path := filepath.Join(dir, "gatehouse")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/gatehouse")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	binary, err = os.ReadFile(path)
	return binary, version, err
}

// roots are Mozilla's root certificates. Those that may vouch for some names
// only are left out: a file cannot say so.
func roots() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return out.Bytes()
}

// file is one of an archive; a folder if its name ends in a slash.
type file struct {
	name    string
	mode    int64
	content []byte
}

// archive makes a tar of files: sorted, without owner and time.
func archive(files []file) ([]byte, error) {
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR, ModTime: time.Unix(0, 0)}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, bytes.NewReader(f.content)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
