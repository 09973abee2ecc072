"""The content of an upload is not what it must be: `problems` of a teacher or dataset that is `invalid`.

Those of `WARNINGS` are in the report of one that is `ready`.
"""

from abcore.specs.codes.code import Code

_AGAIN = "The file was cut off or altered on its way: send it again with its sha256."
_PACK = "Pack the folder again with plain zip, or as .tar.gz."
_STATE_DICT = "Send only the state dict: torch.save(model.state_dict(), 'teacher.pt'), or safetensors."

CHECKPOINTS: dict[str, Code] = {
    "checkpoint.unknown_format": Code("The file is no checkpoint.", _STATE_DICT),
    "checkpoint.legacy": Code(
        "The file is a bare pickle, PyTorch's format before 1.6.",
        "Load it where you trust it and save it again with torch.save.",
    ),
    "checkpoint.torchscript": Code("The file is a TorchScript archive: a program.", _STATE_DICT),
    "checkpoint.not_torch": Code("The file is a zip archive, but not one of torch.save.", _STATE_DICT),
    "checkpoint.compressed": Code(
        "Its entries are compressed; PyTorch stores them as they are.",
        "Send the file as torch.save wrote it.",
    ),
    "checkpoint.foreign_object": Code(
        "It contains something that has no place among tensors and plain values. Nothing of it was run.",
        _STATE_DICT,
    ),
    "checkpoint.pickle_protocol": Code(
        "It uses a pickle protocol other than 2, which cannot be read safely.",
        "Save it again without `pickle_protocol`.",
    ),
    "checkpoint.pickle_too_large": Code(
        "Names and shapes take more room than those of any network.", _STATE_DICT
    ),
    "checkpoint.bomb": Code(
        "It asks for far more memory than its size explains. Nothing of it was run.", _STATE_DICT
    ),
    "checkpoint.forged": Code(
        "What it claims about its tensors is not what the file holds.",
        "Save the state dict again; the file is damaged or made by hand.",
    ),
    "checkpoint.damaged": Code("It cannot be read to its end.", _AGAIN),
    "checkpoint.no_state_dict": Code("No state dict was found in it.", _STATE_DICT),
    "checkpoint.mismatch": Code(
        "Its tensors do not fit the architecture that the teacher was announced with.",
        "The message names tensors; announce the teacher with the architecture that it was trained as.",
    ),
    "checkpoint.unsupported_tensor": Code(
        "A tensor holds no floats.", "Send the weights as they were before quantisation."
    ),
    "checkpoint.not_finite": Code(
        "A tensor holds values that are not finite.", "Send an earlier checkpoint: the training had diverged."
    ),
    "checkpoint.no_answer": Code(
        "The network's logits are not finite.",
        "Check the running variances of its batch norms; send an earlier checkpoint.",
    ),
}
ARCHIVES: dict[str, Code] = {
    "archive.damaged": Code("The archive cannot be read.", _AGAIN),
    "archive.bomb": Code(
        "A file in it unfolds to many times its compressed size.",
        "Send images in an image format (PNG, JPEG).",
    ),
    "archive.special_file": Code(
        "It holds a link or a device.", "Pack the files that the links point to: tar --dereference."
    ),
    "archive.unsafe_path": Code(
        "It names a file outside of itself.",
        "Pack the folder with relative paths: tar -C FOLDER -cf data.tar .",
    ),
    "archive.unreadable_name": Code(
        "A file's name is not UTF-8, has control characters, or is too long.", "Rename the file."
    ),
    "archive.duplicate": Code("It holds two files of one name.", _PACK),
    "archive.too_many_members": Code("It holds more files than are accepted.", "Split the dataset."),
    "archive.compression": Code("It is compressed by a method that is not read.", _PACK),
    "archive.encrypted": Code("It is encrypted.", "Send an archive without a password."),
    "npz.unknown_names": Code(
        "The .npz has no arrays of the names that are looked for.",
        "numpy.savez('data.npz', train_images=..., train_labels=...)",
    ),
    "npz.bad_array": Code("An array of the .npz cannot be read.", "Write the file again with numpy.savez."),
    "idx.incomplete": Code(
        "An idx file is missing.", "Pack all four files, under their usual names, into one archive."
    ),
    "idx.bad_array": Code("An idx file cannot be read.", "Send the original idx files."),
    "webdataset.incomplete": Code(
        "A sample has an image and no label, or a label and no image.",
        "The files of a sample follow each other: tar --sort=name.",
    ),
    "webdataset.several_images": Code(
        "A sample has two images.", "Leave out masks and second views, or give them keys of their own."
    ),
    "webdataset.bad_label": Code(
        "A label's file does not hold one.", 'KEY.cls: a whole number; KEY.json: {"label": number or name}.'
    ),
    "parquet.damaged": Code("A parquet file cannot be read, or is encrypted.", _AGAIN),
    "parquet.columns": Code(
        "A parquet file has no column of images or none of labels.",
        "Call them `image` (bytes, or a struct that has them) and `label` (a whole number or a string).",
    ),
    "parquet.class_names": Code(
        "The class names in the schema's metadata are not different strings.",
        "Write the file again with datasets.ClassLabel(names=[...]).",
    ),
    "parquet.classes_differ": Code(
        "Parquet files of one archive name different classes.", "All shards of a dataset have one schema."
    ),
    "parquet.no_label": Code("A row has no label.", "Leave out rows without a label."),
    "parquet.too_many_rows": Code(
        "A parquet file claims more rows or row groups than are accepted.", "Split the dataset."
    ),
    "parquet.forged": Code(
        "A parquet file claims more bytes than it has.",
        "Write the file again; it is damaged or made by hand.",
    ),
    "parquet.bomb": Code(
        "The images of a parquet file unfold to many times their compressed size.",
        "Write the image column without compression: images are compressed already.",
    ),
}
DATASETS: dict[str, Code] = {
    "dataset.unknown_format": Code(
        "The file is no dataset.", "Pack the folder: tar -C FOLDER -czf data.tar.gz train val"
    ),
    "dataset.empty": Code(
        "It holds no image.", "Send at least two classes of images in a split called `train`."
    ),
    "dataset.empty_split": Code("A split holds no image.", "Fill it, or leave it out."),
    "dataset.no_train": Code("It has no training split.", "Name one split `train`."),
    "dataset.no_class_folders": Code(
        "No image lies in SPLIT/CLASS/.",
        "Put every image into train/CLASS/, and into val/CLASS/ or test/CLASS/.",
    ),
    "dataset.too_many_classes": Code("It has more classes than are accepted.", "A class has many images."),
    "dataset.one_class": Code("All images are of one class.", "Send at least two classes."),
    "dataset.class_without_training_images": Code(
        "A class has no training image.",
        "Give each class training images, or remove it from the other splits.",
    ),
    "dataset.broken_images": Code(
        "Images cannot be decoded.", "Replace or remove these files, and send the archive again."
    ),
    "dataset.mixed_sizes": Code("The images have different sizes.", "Create the dataset with `image_size`."),
    "dataset.image_size": Code(
        "The images are smaller or larger than is supported.", "Create the dataset with `image_size`."
    ),
    "dataset.too_large": Code(
        "The decoded images take too much memory.", "Give `image_size` to make them smaller, or send fewer."
    ),
    "dataset.shape": Code(
        "The array of images has no shape of one.",
        "Images are grey or RGB, in (N, H, W[, C]) or (N, C, H, W).",
    ),
    "dataset.not_uint8": Code(
        "Pixels are no whole numbers from 0 to 255.", "Send uint8; normalisation comes later."
    ),
    "dataset.labels": Code(
        "Labels are no class indices, not one an image, or names among numbers.",
        "One whole number an image, counted from 0; or one name an image.",
    ),
    "upload.too_large_to_read": Code(
        "Reading it takes more memory than a verification may use.",
        "Send a smaller file, or let the operator raise the limit.",
    ),
    "upload.too_slow_to_read": Code(
        "Reading it takes more processor time than a verification may use.",
        "Send smaller images, or a smaller file.",
    ),
}
IMPORTS: dict[str, Code] = {
    "import.missing": Code(
        "There is nothing at the source.", "Correct its address; create a new object for it."
    ),
    "import.unreadable": Code(
        "The service may not read the source.",
        "Let the operator give the service's account, or its credentials of the bucket, the right to read it.",
    ),
    "import.outside": Code(
        "The source is a link that leads out of the folder that may be imported from.",
        "Put the file itself there.",
    ),
    "import.not_a_file": Code(
        "The source is a folder, a device or a pipe.",
        "Pack a folder into one file: tar -C FOLDER -cf data.tar .",
    ),
    "import.too_large": Code(
        "The source is larger than an upload may be.",
        "Import a smaller file, or let the operator raise the limit.",
    ),
}
WARNINGS: dict[str, Code] = {
    "dataset.held_out": Code(
        "There was no val or test split, so images of train were held out.",
        "Send a test split to choose them yourself.",
    ),
    "dataset.class_missing": Code(
        "A class has no image in a split other than train.", "Nothing is known of its accuracy there."
    ),
    "dataset.imbalance": Code(
        "Some class has many times the training images of another.", "Send more of the rare classes."
    ),
    "dataset.duplicates": Code(
        "Images of train are also in another split.",
        "Remove them: accuracy on that split will look better than it is.",
    ),
    "dataset.ignored_files": Code(
        "Files that are neither images nor labels were left out.", "Nothing, if they were not meant."
    ),
    "dataset.repeated": Code(
        "Images of a split repeat others of it.", "Leave the copies out, unless they shall weigh more."
    ),
    "dataset.other_label": Code(
        "Equal images are there under different labels.",
        "Correct them; `duplicates.examples` names some.",
    ),
    "dataset.tiny_classes": Code(
        "Some class has very few training images.", "Add images of it, or merge it with another."
    ),
    "dataset.small_split": Code(
        "A split to evaluate on has few images, so that chance decides much.", "Send more of them."
    ),
    "dataset.blank_images": Code(
        "Images are of one colour, or nearly.", "Leave them out, if they show nothing."
    ),
    "dataset.enlarged": Code(
        "Images were smaller than `image_size` and were enlarged.", "A smaller image_size shows the same."
    ),
}
EVALUATIONS: dict[str, Code] = {
    "teacher.at_chance": Code(
        "A teacher is no better than chance on a dataset of its classes.",
        "Its classes are in another order than the dataset's, or its normalization is another.",
    ),
}
UPLOADS: dict[str, Code] = CHECKPOINTS | ARCHIVES | DATASETS | IMPORTS | WARNINGS | EVALUATIONS
