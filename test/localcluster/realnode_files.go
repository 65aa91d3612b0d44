package localcluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// The files in a real node's folder.
const (
	certificateFile      = "kubelet.crt"
	keyFile              = "kubelet.key"
	containerdConfigFile = "containerd.toml"
	kubeletConfigFile    = "kubelet.json"
	cniDir               = "cni" // the network plugins and their configuration
)

// loopbackPlugin is the network plugin that containerd runs for every Pod, on top of
// those that it is told.
const loopbackPlugin = "loopback"

// snapshotter copies the images' files: the faster ones cannot live on the file systems
// of containers, in which tests may run.
const snapshotter = "native"

// containerdConfig keeps everything in the node's folder, or below /run, of which the
// node has its own.
const containerdConfig = `version = 2
root = "%[1]s/containerd"
state = "/run/containerd-state"
# These would write elsewhere, or need what is not here.
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.overlayfs",
]
[grpc]
address = "%[2]s"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "` + TestImage + `"
stream_server_address = "127.0.0.1"
stream_server_port = "0"
disable_apparmor = true # the profile would stay in the kernel
restrict_oom_score_adj = true # also where a better score may not be had
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "` + snapshotter + `"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "%[1]s/` + cniDir + `"
conf_dir = "%[1]s/` + cniDir + `"
`

// aloneConfig and alonePlugin are a network of which each Pod has nothing but its
// loopback interface: no interface, route or firewall rule is made on the host. The
// address is there because a Pod must have one, and is not for use.
const (
	aloneConfig = `{"cniVersion": "0.4.0", "name": "alone", "plugins": [{"type": "alone"}]}`
	alonePlugin = `#!/bin/sh
[ "$CNI_COMMAND" != VERSION ] || echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}'
[ "$CNI_COMMAND" != ADD ] || cat <<RESULT
{"cniVersion": "0.4.0", "interfaces": [{"name": "$CNI_IFNAME", "sandbox": "$CNI_NETNS"}],
 "ips": [{"version": "4", "interface": 0, "address": "198.51.100.1/32"}]}
RESULT
`
)

// writeFiles writes the node's configuration.
func (n *realNode) writeFiles() error {
	kubelet, err := json.Marshal(n.kubeletConfig())
	if err != nil {
		return fmt.Errorf("encoding the kubelet's configuration: %w", err)
	}
	for name, content := range map[string][]byte{
		containerdConfigFile:       fmt.Appendf(nil, containerdConfig, n.dir, n.socket()),
		kubeletConfigFile:          kubelet,
		cniDir + "/alone.conflist": []byte(aloneConfig),
		cniDir + "/alone":          []byte(alonePlugin),
	} {
		if err := os.WriteFile(n.path(name), content, 0o700); err != nil {
			return fmt.Errorf("writing the node's configuration: %w", err)
		}
	}
	if err := os.Symlink(findProgram(loopbackPlugin), n.path(cniDir+"/"+loopbackPlugin)); err != nil {
		return fmt.Errorf("writing the node's configuration: %w", err)
	}
	return nil
}

// kubeletConfig leaves the host alone, and throws nothing away on a machine that has
// little disk left.
func (n *realNode) kubeletConfig() map[string]any {
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",

		"address":           "127.0.0.1",
		"port":              n.port,
		"healthzPort":       0,
		"tlsCertFile":       n.path(certificateFile),
		"tlsPrivateKeyFile": n.path(keyFile),
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": false},
			"x509":      map[string]any{"clientCAFile": n.path(certificateFile)},
		},
		"authorization": map[string]any{"mode": "AlwaysAllow"},

		"containerRuntimeEndpoint": "unix://" + n.socket(),
		"podLogsDir":               n.path("pods"),
		"volumePluginDir":          n.path("volumes"),
		"containerLogMaxSize":      "1Gi", // a log shall be read as a whole
		"serializeImagePulls":      false,
		"resolvConf":               "",

		"cgroupDriver":                  "cgroupfs",
		"cgroupRoot":                    "/" + n.cgroup,
		"cgroupsPerQOS":                 true,
		"enforceNodeAllocatable":        []string{},
		"failCgroupV1":                  false,
		"failSwapOn":                    false,
		"localStorageCapacityIsolation": false,
		"makeIPTablesUtilChains":        false,

		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		"evictionHard": map[string]string{
			"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
		},
	}
}

// writeCertificate makes the certificate by which kubelet and API server know each
// other; it is its own CA, and serves at both ends.
func (n *realNode) writeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kubelet and API server"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(7 * 24 * time.Hour),
		DNSNames:              []string{RealNodeName},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("signing a certificate: %w", err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	for name, block := range map[string]*pem.Block{
		certificateFile: {Type: "CERTIFICATE", Bytes: der},
		keyFile:         {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(n.path(name), pem.EncodeToMemory(block), 0o600); err != nil {
			return fmt.Errorf("writing the node's certificate: %w", err)
		}
	}
	return nil
}
