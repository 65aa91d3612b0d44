package localcluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	// TestImage is on every real node: the program in test/testimage, as its
	// entry point.
	TestImage = "localcluster.pooledjob.io/testimage:v1"

	// BusyboxImage is on every real node of a machine that has a static busybox, and is
	// made of that, whatever its version.
	BusyboxImage = "docker.io/library/busybox:1.37"
)

// image is a container image with one static program.
type image struct {
	name       string
	program    string   // its file on this machine
	path       string   // in the image
	links      []string // other paths in the image that lead to it
	entrypoint []string
}

// images makes the programs that are not there yet.
func (n *realNode) images(ctx context.Context) ([]image, error) {
	root, err := ModuleRoot()
	if err != nil {
		return nil, err
	}
	program := n.path("testimage")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./test/testimage")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building test/testimage: %w: %s", err, output)
	}
	images := []image{{name: TestImage, program: program, path: "/testimage", entrypoint: []string{"/testimage"}}}
	if HasBusybox() {
		busybox := findProgram("busybox")
		output, err := exec.CommandContext(ctx, busybox, "--list").Output()
		if err != nil {
			return nil, fmt.Errorf("asking busybox what it can do: %w", err)
		}
		shell := image{name: BusyboxImage, program: busybox, path: "/bin/busybox", entrypoint: []string{"sh"}}
		for _, applet := range strings.Fields(string(output)) {
			if applet != "busybox" {
				shell.links = append(shell.links, "/bin/"+applet)
			}
		}
		images = append(images, shell)
	}
	return images, nil
}

// HasBusybox reports whether real nodes have BusyboxImage from the start.
func HasBusybox() bool {
	busybox := findProgram("busybox")
	return busybox != "" && isStatic(busybox)
}

// isStatic reports whether a program needs no other file to run.
func isStatic(program string) bool {
	file, err := elf.Open(program)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // it was only read
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}

// write writes the image in the format of `docker save`.
func (i image) write(archive string) error {
	layer, err := i.layer()
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": i.entrypoint, "Env": []string{"PATH=/bin"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{
		{"Config": "config.json", "RepoTags": []string{i.name}, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"layer.tar", layer}, {"config.json", config}, {"manifest.json", manifest}} {
		if err := addFile(writer, file.name, file.content); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return os.WriteFile(archive, out.Bytes(), 0o600)
}

// layer returns the image's only one.
func (i image) layer() ([]byte, error) {
	content, err := os.ReadFile(i.program)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	if dir := path.Dir(i.path); dir != "/" {
		if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return nil, err
	}
	if err := addFile(writer, i.path[1:], content); err != nil {
		return nil, err
	}
	for _, link := range i.links {
		header := &tar.Header{Typeflag: tar.TypeSymlink, Name: link[1:], Linkname: i.path, Mode: 0o777}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func addFile(writer *tar.Writer, name string, content []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Mode: 0o755, Size: int64(len(content))}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err := writer.Write(content)
	return err
}
