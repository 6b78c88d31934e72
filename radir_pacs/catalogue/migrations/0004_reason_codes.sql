-- A reason is a code beside the text that people read. What stands gets the code that its text tells.

ALTER TABLE study ADD COLUMN reason_code text;
ALTER TABLE refusal ADD COLUMN reason_code text NOT NULL DEFAULT 'OTHER';
ALTER TABLE job ADD COLUMN reason_code text;

UPDATE study SET reason_code = CASE
    WHEN reason LIKE 'no model is served%' THEN 'NO_MODEL'
    WHEN reason LIKE '%another body part%' THEN 'NOT_CHEST'
    WHEN reason LIKE 'modality not supported%' THEN 'UNSUPPORTED_MODALITY'
    WHEN reason LIKE 'no image in the study%' OR reason = 'the study has no instances' THEN 'NO_IMAGE'
    WHEN reason LIKE '%slices, fewer than%' OR reason LIKE '%slice positions, fewer than%' THEN 'TOO_FEW_SLICES'
    WHEN reason LIKE '%without Hounsfield units%' THEN 'NO_HOUNSFIELD'
    WHEN reason LIKE '%series is oblique%' THEN 'OBLIQUE'
    WHEN reason LIKE '%the CT series has gaps%' THEN 'MISSING_SLICES'
    WHEN reason LIKE '%differ in size, spacing or orientation%' THEN 'MIXED_SLICES'
    WHEN reason LIKE '%larger than the limit allows%' THEN 'TOO_LARGE'
    WHEN reason LIKE '%one flat tone%' OR reason LIKE '%one flat shade%' THEN 'BLANK_IMAGE'
    WHEN reason LIKE '%answers no finite number%' THEN 'NO_VECTOR'
    WHEN reason LIKE '%the decoder died (SIGKILL)%' THEN 'DECODER_KILLED'
    WHEN reason LIKE '%the decoder died%' OR reason LIKE '%answer makes no sense%' THEN 'DECODER_CRASHED'
    WHEN reason LIKE '%decoding took longer than%' THEN 'DECODE_TIMEOUT'
    WHEN reason LIKE '%decoding needs more memory%' THEN 'DECODE_MEMORY'
    WHEN reason LIKE '%the pixels cannot be decoded%' OR reason LIKE '%has no pixel data%'
        OR reason LIKE '%decodes to another size%' THEN 'DECODE_FAILED'
    WHEN reason LIKE 'the worker stopped without a word%' THEN 'WORKER_KILLED'
    WHEN reason LIKE 'internal error%' THEN 'WORKER_FAILED'
    WHEN reason LIKE 'the blob store refused%' OR reason LIKE 'the database did not answer%' THEN 'OUT_OF_RESOURCES'
    WHEN reason LIKE '%colour picture%' OR reason LIKE '%radiograph of several frames%'
        OR reason LIKE '%rows or columns%' OR reason LIKE '%secondary capture%' OR reason LIKE '%CT localizer%'
        OR reason LIKE '%without an image%' OR reason LIKE '%without a grey image%' THEN 'UNSUPPORTED_IMAGE'
    ELSE 'OTHER' END
WHERE reason IS NOT NULL;

UPDATE refusal SET reason_code = CASE
    WHEN dimse_status = 49154 THEN 'CONFLICT'               -- 0xC002
    WHEN dimse_status = 43264 THEN 'MISMATCH'               -- 0xA900
    WHEN dimse_status = 42752 AND reason LIKE '%larger%' THEN 'TOO_LARGE'
    WHEN dimse_status = 42752 THEN 'OUT_OF_RESOURCES'       -- 0xA700
    WHEN dimse_status = 49152 THEN 'UNREADABLE'             -- 0xC000
    ELSE 'OTHER' END;

UPDATE job SET reason_code = CASE
    WHEN error LIKE 'the worker stopped without a word%' THEN 'WORKER_KILLED'
    WHEN error LIKE 'internal error%' THEN 'WORKER_FAILED'
    ELSE 'OTHER' END
WHERE state = 'FAILED';
