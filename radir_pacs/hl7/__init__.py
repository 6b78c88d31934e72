"""HL7 v2 over MLLP: reports, patients that merge, orders that name their study. The reading is ours: docs/adr/0020."""
