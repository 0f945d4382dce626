"""An emulator of Clifford circuits, of hundreds of qubits, by stim."""
