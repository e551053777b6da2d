package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gatehouse/e2e/rig"
)

// try has a registry take the image, another program find it valid, and the binary
// of each architecture run: its version, a check, and a request. One that is not
// this machine's runs in an emulator.
func try(ctx context.Context, file string, archs []string) error {
	dir, err := os.MkdirTemp("", "gatehouse-try")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	layout := filepath.Join(dir, "layout")
	if err := extract(bytes.NewReader(text), layout); err != nil {
		return err
	}
	crane, err := rig.Find("crane")
	if err != nil {
		return err
	}
	port, err := rig.FreePort()
	if err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	registry, err := rig.Start("registry", dir, nil, crane, "registry", "serve", "--address", address)
	if err != nil {
		return err
	}
	defer registry.Kill()
	err = registry.WaitFor(ctx, func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	name := address + "/gatehouse:try"
	for _, args := range [][]string{{"push", layout, name}, {"validate", "--remote", name}} {
		if _, err := output(ctx, crane, append(args, "--insecure")...); err != nil {
			return err
		}
	}
	for _, arch := range archs {
		root, export := filepath.Join(dir, arch), filepath.Join(dir, arch+".tar")
		if _, err := output(ctx, crane, "export", name, export, "--platform", "linux/"+arch, "--insecure"); err != nil {
			return err
		}
		if err := runs(ctx, root, export, arch); err != nil {
			return fmt.Errorf("the image for %s: %w", arch, err)
		}
	}
	return nil
}

// runs runs the binary of an exported image.
func runs(ctx context.Context, root, export, arch string) error {
	text, err := os.ReadFile(export)
	if err == nil {
		err = extract(bytes.NewReader(text), root)
	}
	if err != nil {
		return err
	}
	command := []string{filepath.Join(root, "gatehouse")}
	if arch != runtime.GOARCH {
		emulator, err := emulatorOf(arch)
		if err != nil {
			return err
		}
		command = append([]string{emulator}, command...)
	}
	version, err := output(ctx, command[0], append(command[1:], "version")...)
	if err == nil && !strings.Contains(version, "linux/"+arch) {
		err = fmt.Errorf("its version is %q", version)
	}
	if err != nil {
		return err
	}
	web, err := rig.FreePort()
	if err != nil {
		return err
	}
	file := filepath.Join(root, "gatehouse.toml")
	config := fmt.Sprintf("[entryPoints.http]\naddress = \"127.0.0.1:%d\"\n[store]\ndirectory = %q\n[ping]\nentryPoint = \"http\"\n", web, filepath.Join(root, "store"))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	if _, err := output(ctx, command[0], append(command[1:], "check", "-c", file)...); err != nil {
		return err
	}
	p, err := rig.Start("gatehouse", root, nil, command[0], append(command[1:], "-c", file)...)
	if err != nil {
		return err
	}
	err = p.WaitFor(ctx, func(ctx context.Context) error { return rig.Answers(ctx, fmt.Sprintf("http://127.0.0.1:%d/ping", web)) })
	if err := errors.Join(err, p.Stop(20*time.Second)); err != nil {
		return err
	}
	fmt.Printf("image: %s runs: %s", arch, version)
	return nil
}

// emulatorOf finds what e2e/tools/emulator fetches.
func emulatorOf(arch string) (string, error) {
	name := map[string]string{"arm64": "qemu-aarch64-static", "amd64": "qemu-x86_64-static"}[arch]
	if path := filepath.Join(rig.Root(), ".cache/debian/qemu/usr/bin", name); name != "" {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find an emulator of %s: %w; e2e/tools/emulator gets one", arch, err)
	}
	return path, nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// extract unpacks a tar of files and folders of our own making.
func extract(text io.Reader, dir string) error {
	r := tar.NewReader(text)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("unpack %s: it leads out of the folder", h.Name)
		}
		content, err := io.ReadAll(r)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, content, os.FileMode(h.Mode).Perm())
		}
		if err != nil {
			return err
		}
	}
}
