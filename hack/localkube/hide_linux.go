package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// hidden are the folders of the host that a container runtime and a kubelet write
// to at fixed paths. The node gets empty ones in memory.
var hidden = []string{"/run", "/var/lib", "/var/log"}

// tunables are the kernel settings that a kubelet changes. The node gets copies.
var tunables = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// hideHost makes this mount namespace one in which a node can be run without a
// trace on the host, but for the paths to keep.
func hideHost(keep []string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	// That of the PID namespace: the one of the host has other numbers.
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	kept, err := openBelow(hidden, keep)
	if err != nil {
		return err
	}
	for _, folder := range hidden {
		if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("hiding %s: %w", folder, err)
		}
	}
	for path, file := range kept {
		if err := bringBack(path, file); err != nil {
			return fmt.Errorf("keeping %s: %w", path, err)
		}
	}
	for _, name := range tunables {
		if err := shadow("/proc/sys/" + name); err != nil {
			return fmt.Errorf("copying a kernel setting: %w", err)
		}
	}
	return nil
}

// openBelow opens those of the paths that are below one of the folders.
func openBelow(folders, paths []string) (map[string]*os.File, error) {
	open := map[string]*os.File{}
	for _, path := range paths {
		path, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue // there is nothing to keep
		}
		for _, folder := range folders {
			if !strings.HasPrefix(path, folder+"/") {
				continue
			}
			if open[path], err = os.Open(path); err != nil {
				return nil, err
			}
		}
	}
	return open, nil
}

// bringBack mounts what was opened before at its path again.
func bringBack(path string, file *os.File) error {
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(path, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
		err = os.WriteFile(path, nil, 0o600)
	}
	if err != nil {
		return err
	}
	return syscall.Mount(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), path, "", syscall.MS_BIND|syscall.MS_REC, "")
}

// shadow puts a copy of a file in its place, for this node to write to.
func shadow(path string) error {
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	copied := filepath.Join("/run/settings", strings.ReplaceAll(path, "/", "_"))
	if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(copied, content, 0o644); err != nil {
		return err
	}
	return syscall.Mount(copied, path, "", syscall.MS_BIND, "")
}
